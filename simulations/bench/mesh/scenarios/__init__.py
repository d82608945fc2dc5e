"""The experiments B1 to B19, a module each: links, who has what, what is measured."""
