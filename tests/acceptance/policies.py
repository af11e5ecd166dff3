"""The policy that the acceptance tests run under."""

from __future__ import annotations

SERVICES = tuple(f"service-{number}" for number in range(400))
"""One for each test that needs a service nobody else uses."""

_EVERY_ENDPOINT = """
      - POST /v1/messages
      - PATCH /v1/messages/{id}
      - DELETE /v1/messages/{id}
      - POST /v1/questions
      - GET /v1/tasks
      - GET /v1/tasks/{id}
      - GET /v1/tasks/{id}/events
      - DELETE /v1/tasks/{id}
      - GET /v1/tasks/{id}/history
      - POST /v1/tasks/{id}/consume
      - DELETE /v1/tasks
      - GET /v1/audit
      - POST /v1/telegram/{method}
      - GET /v1/files/{file_id}
      - GET /v1/chats
      - POST /v1/broadcasts
      - GET /v1/commands/events
      - POST /v1/commands/{id}/take
      - POST /v1/commands/{id}/replies
      - GET /v1/deliveries
      - GET /v1/deliveries/{id}
      - POST /v1/deliveries/{id}/redeliver
      - POST /v1/deliveries/test
      - POST /mcp
      - POST /v1/hooks/claude-code
      - POST /v1/sweep
      - GET /metrics"""

POLICY = f"""
version: 1
chats:
  ops: -1001234567890
  ada: 815
service_roles:
  everything:
    endpoints:{_EVERY_ENDPOINT}
    methods: [setChatTitle]
    chats: ["*"]
  notifier:
    endpoints: ["POST /v1/messages", "PATCH /v1/messages/{{id}}", "DELETE /v1/messages/{{id}}",
                "GET /v1/tasks/{{id}}"]
    chats: [ops]
  approver:
    includes: [notifier]
    endpoints: ["POST /v1/questions", "DELETE /v1/tasks/{{id}}"]
  asker-of-ada:
    endpoints: ["POST /v1/questions", "GET /v1/tasks/{{id}}"]
    chats: [ada]
  reader:
    endpoints: ["GET /v1/tasks", "GET /v1/tasks/{{id}}"]
person_roles:
  viewer: {{commands: [status]}}
  operator: {{includes: [viewer], commands: [deploy]}}
  nobody: {{commands: []}}
services:
  ci: {{roles: [approver]}}
  revoked: {{roles: [everything], revoked: [stolen], not_before: 2026-01-01T00:00:00Z}}
{"".join(f"  {name}: {{roles: [everything, approver, asker-of-ada, reader]}}{chr(10)}" for name in SERVICES)}
commands:
  status: {{service: ci, description: What is running}}
  deploy: {{service: ci, description: Deploy a build, usage: "<environment>", chats: [ops]}}
"""
