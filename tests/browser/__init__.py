"""The pages in a real browser: what a script, a style sheet or a narrow screen breaks shows only there."""
