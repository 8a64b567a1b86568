"""Conversations: what was asked and answered (`history`), and follow-ups as questions that stand alone (`followup`)."""
