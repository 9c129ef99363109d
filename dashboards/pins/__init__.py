"""Charts and tables that were pinned on any page, and the report that is made of them."""
