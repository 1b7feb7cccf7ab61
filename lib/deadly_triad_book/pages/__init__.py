"""Extensions of Sphinx, which make the built pages and compute nothing: when they change, no notebook has to run again."""
