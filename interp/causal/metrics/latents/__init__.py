"""The metrics of faithfulness for thoughts without words: continuous thoughts, thinking tokens and pauses."""
