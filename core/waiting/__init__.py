"""Waiting: HTTP requests that wait for a task, and streams that follow one."""
