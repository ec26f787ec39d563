"""Which class writes which endpoint's frames. In: an endpoint, an `Order`. Out: a fresh `Reply`."""

from ._chat import Chat, ChatTools
from ._completions import Completion
from ._endpoints import Endpoint
from ._messages import Message, MessageTools
from ._reply import Finish, Order, Reply
from ._responses import Response, ResponseTools

_TEXT: dict[Endpoint, type[Reply]] = {
    Endpoint.CHAT: Chat,
    Endpoint.COMPLETIONS: Completion,
    Endpoint.RESPONSES: Response,
    Endpoint.MESSAGES: Message,
}
_TOOLS: dict[Endpoint, type[Reply]] = {
    Endpoint.CHAT: ChatTools,
    Endpoint.RESPONSES: ResponseTools,
    Endpoint.MESSAGES: MessageTools,
}


def make_reply(endpoint: Endpoint, order: Order) -> Reply:
    """A reply in the endpoint's form."""
    return (_TOOLS if order.finish is Finish.TOOLS else _TEXT)[endpoint](order)
