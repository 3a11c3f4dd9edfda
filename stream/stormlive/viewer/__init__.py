"""The live window. Nothing else in stormlive imports vispy or Qt."""
