"""What a run leaves behind: images, pictures and the record of how they were made."""
