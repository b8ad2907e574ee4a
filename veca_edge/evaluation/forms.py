"""What an evaluation can be asked of, in words. Imports nothing, so that a command line can be made of it."""

DATA = "a folder of images, a .csv of paths and labels, .tar shards of WebDataset, or a video"
# How folders say classes.
BY_NAME, SORTED = "names", "sorted"
FOLDER_CLASSES = (BY_NAME, SORTED)
