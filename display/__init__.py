"""How things show themselves: tables, models and guides as text and as HTML, whatever they hold escaped."""
