"""Sheets, tickets and posters: drawn by a child process, handed out as files."""
