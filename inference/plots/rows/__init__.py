"""Pictures of the rows of the data: densities fitted to them, what is predicted of them, components, codes."""
