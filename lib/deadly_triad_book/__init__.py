"""What only the book needs: figure style, drawings, Sphinx glue. No mathematics lives here."""
