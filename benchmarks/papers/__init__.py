"""The table of the papers: each system measured again on the shipped organisms, beside the paper's own figures."""
