"""The routes of the API, and what each needs: a role that names it, any valid token, or no token at all.

Method and path are written exactly as the API reference and `permissions.yaml` write them.
"""

from __future__ import annotations

from typing import Final

ENDPOINTS: Final = (
    "POST /v1/messages",
    "PATCH /v1/messages/{id}",
    "DELETE /v1/messages/{id}",
    "POST /v1/questions",
    "GET /v1/tasks",
    "GET /v1/tasks/{id}",
    "GET /v1/tasks/{id}/events",
    "DELETE /v1/tasks/{id}",
    "GET /v1/tasks/{id}/history",
    "POST /v1/tasks/{id}/consume",
    "DELETE /v1/tasks",
    "GET /v1/audit",
    "POST /v1/telegram/{method}",
    "GET /v1/files/{file_id}",
    "GET /v1/chats",
    "POST /v1/broadcasts",
    "GET /v1/commands/events",
    "POST /v1/commands/{id}/take",
    "POST /v1/commands/{id}/replies",
    "GET /v1/deliveries",
    "GET /v1/deliveries/{id}",
    "POST /v1/deliveries/{id}/redeliver",
    "POST /v1/deliveries/test",
    "POST /mcp",
    "POST /v1/hooks/claude-code",
    "POST /v1/sweep",
    "GET /metrics",
)
"""Routes that need a role which names them, in the order of the API reference.

All of the contract are here, so that a policy can be written before a version serves them.
"""

FOR_EVERY_SERVICE: Final = ("GET /v1/me", "GET /v1/capabilities", "POST /enqueue_command")
"""Routes that need a valid token and no role; `/enqueue_command` needs what the endpoint it names needs."""

PUBLIC: Final = (
    "GET /healthz",
    "GET /readyz",
    "GET /openapi.json",
    "GET /docs",
    "POST /telegram/webhook",
    "GET /.well-known/telegate.json",
)
"""Routes without a token, on purpose; the webhook has its own secret."""
