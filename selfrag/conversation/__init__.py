"""Conversations: the history of questions and answers, and the rewriting of follow-ups."""
