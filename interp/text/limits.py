"""Limits of reading text, for options of commands: importing this loads nothing else."""

# Largest share of the steps of visible thoughts that may have no place in the text. Beyond it a read-out would be scored
# at tokens that say something else.
MAX_UNPLACED = 0.02
