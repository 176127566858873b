"""A module for each family; the folder is the list of them."""
