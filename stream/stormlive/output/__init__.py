"""What a run leaves behind: images, pictures and the record of how they were made."""

RUN_FILE = "run.json"
"""The record in the folder of a run; a folder that has it has everything that it names."""
