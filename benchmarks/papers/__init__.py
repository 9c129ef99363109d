"""The papers' table: published systems measured again on small organisms, beside the papers' own figures."""
