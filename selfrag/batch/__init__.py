"""Questions by the thousand: reading them, answering them, and the file that survives a kill."""
