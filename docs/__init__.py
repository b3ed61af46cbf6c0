"""The guide: pages in Markdown, and the scripts that fill in, draw and stage what is computed."""
