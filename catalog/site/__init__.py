"""The site: catalog and results as Markdown pages in two languages, which MkDocs renders."""
