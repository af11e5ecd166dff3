"""The route table: every route of the contract, those too that this version does not serve."""

from __future__ import annotations

from typing import Final

from handlers import enqueue_command as enqueueing
from handlers import events, messages, openapi, operations, questions, tasks, telegram
from handlers.bodies import EditBody, EnqueueBody, MessageBody, QuestionBody
from handlers.route import Answers, Route, refuse_not_built

_MAKING = (
    "chat_forbidden",
    "idempotency_mismatch",
    "telegram_rejected",
    "recipient_unreachable",
    "telegram_unavailable",
    "outcome_unknown",
)

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "POST /v1/messages",
        messages.send_message,
        "Say something",
        Answers.NEW_TASK,
        MessageBody,
        _MAKING,
        "messages",
    ),
    Route(
        "PATCH /v1/messages/{id}",
        messages.edit_message,
        "Correct a message",
        Answers.NEW_TASK,
        EditBody,
        ("not_found", "already_final", *_MAKING),
        "messages",
    ),
    Route(
        "DELETE /v1/messages/{id}",
        messages.delete_message,
        "Take a message back",
        Answers.NEW_TASK,
        codes=("not_found", "already_final", *_MAKING),
        tag="messages",
    ),
    Route(
        "POST /v1/questions",
        questions.ask_question,
        "Ask something; the answer is the response",
        Answers.NEW_TASK,
        QuestionBody,
        _MAKING,
        "questions",
    ),
    Route("GET /v1/tasks", tasks.list_tasks, "List tasks, newest first", Answers.TASK_LIST, tag="tasks"),
    Route(
        "GET /v1/tasks/{id}",
        tasks.get_task,
        "Look at a task, or wait for it",
        Answers.TASK,
        codes=("not_found", "chat_forbidden"),
        tag="tasks",
    ),
    Route(
        "DELETE /v1/tasks/{id}",
        tasks.cancel_task,
        "Take an open question back",
        Answers.TASK,
        codes=("not_found", "already_final", "chat_forbidden"),
        tag="tasks",
    ),
    Route(
        "GET /v1/tasks/{id}/events",
        events.follow_task,
        "Follow a task as server-sent events",
        Answers.TASK_EVENTS,
        codes=("not_found", "chat_forbidden"),
        tag="tasks",
    ),
    Route(
        "GET /v1/tasks/{id}/history", refuse_not_built, "List every step that a task has made", tag="tasks"
    ),
    Route("POST /v1/tasks/{id}/consume", refuse_not_built, "Use an answer up, once", tag="tasks"),
    Route("DELETE /v1/tasks", refuse_not_built, "Take back the question that a key made", tag="tasks"),
    Route("GET /v1/audit", refuse_not_built, "List decisions over all services"),
    Route("POST /v1/telegram/{method}", refuse_not_built, "Call any Bot API method", tag="telegram"),
    Route("GET /v1/files/{file_id}", refuse_not_built, "Fetch a file that a person sent", tag="telegram"),
    Route("GET /v1/chats", refuse_not_built, "List known chats", tag="telegram"),
    Route("POST /v1/broadcasts", refuse_not_built, "Say something in many chats", tag="messages"),
    Route(
        "GET /v1/commands/events", refuse_not_built, "Follow commands as server-sent events", tag="commands"
    ),
    Route("POST /v1/commands/{id}/take", refuse_not_built, "Take a command on, once", tag="commands"),
    Route("POST /v1/commands/{id}/replies", refuse_not_built, "Reply to a command", tag="commands"),
    Route("GET /v1/deliveries", refuse_not_built, "List deliveries", tag="deliveries"),
    Route(
        "GET /v1/deliveries/{id}", refuse_not_built, "Look at a delivery and its attempts", tag="deliveries"
    ),
    Route("POST /v1/deliveries/{id}/redeliver", refuse_not_built, "Send a delivery again", tag="deliveries"),
    Route("POST /v1/deliveries/test", refuse_not_built, "Send a ping", tag="deliveries"),
    Route("POST /mcp", refuse_not_built, "The same for agents: Model Context Protocol", tag="agents"),
    Route(
        "POST /v1/hooks/claude-code",
        refuse_not_built,
        "Ask what a coding agent wants permission for",
        tag="agents",
    ),
    Route("POST /v1/sweep", operations.sweep, "Work off what is due"),
    Route("GET /v1/me", operations.tell_principal, "This service and what it may do"),
    Route("GET /v1/capabilities", operations.tell_capabilities, "What this gateway can do"),
    Route(
        "POST /enqueue_command",
        enqueueing.enqueue_command,
        "The earlier interface: name a command, carry its arguments",
        Answers.NEW_TASK,
        EnqueueBody,
        ("forbidden", *_MAKING),
        "earlier interface",
    ),
    Route(
        "POST /telegram/webhook",
        telegram.receive_update,
        "Telegram's updates",
        Answers.NOTHING,
        codes=("unauthenticated", "too_large", "storage_unavailable"),
        tag="telegram",
    ),
    Route("GET /healthz", operations.tell_health, "Whether the process is alive"),
    Route("GET /readyz", operations.tell_readiness, "Whether the process can take requests"),
    Route("GET /metrics", operations.tell_metrics, "Metrics for Prometheus", Answers.TEXT),
    Route("GET /openapi.json", openapi.tell_description, "This description"),
    Route("GET /docs", refuse_not_built, "A page to try the API"),
    Route("GET /.well-known/telegate.json", refuse_not_built, "The gateway's public keys"),
)

SERVED: Final = frozenset(route.endpoint for route in ROUTES if route.built)
"""The endpoints that this version has."""
