"""The rows of the table of cells that are about asking back: elicitation, sampling, roots."""

import uuid

from asked import cancelling, declining
from cell import refused
from features import Row
from mcp import J, L, M, RpcError


def forms(client):
    return [params for method, params in client.asked if method == "elicitation/create"]


def accepted(cell):
    client = cell.open()
    before = cell.counts(client)["runs"]
    said = cell.call(client, "cell_act")
    assert not said.failed and said.text == "action=accept", said
    assert len(forms(client)) == 1, client.asked
    # A provider of M is asked again with the answer; an older one goes on where it was.
    rounds = 2 if cell.upstream == M else 1
    assert cell.counts(client)["runs"] == before + rounds, "the call was made again"


def declined(cell):
    for answer, action in ((declining, "decline"), (cancelling, "cancel")):
        client = cell.open(answer)
        said = cell.call(client, "cell_act")
        assert said.text == f"action={action}" and len(forms(client)) == 1, said


def kinds_of_fields(cell):
    """Defaults of every type and choices of every kind, as far as the client knows them."""
    client = cell.open()
    said = cell.call(client, "test_elicitation_sep1034_defaults")
    assert not said.failed and "action=accept" in said.text, said
    shown = forms(client)[0]["requestedSchema"]["properties"]
    assert shown["verified"]["default"] is True, shown
    known = cell.client != J or cell.upstream == J
    assert ("default" in shown["age"]) == known, shown
    said = cell.call(client, "test_elicitation_sep1330_enums")
    assert not said.failed and "action=accept" in said.text, said
    shown = forms(client)[1]["requestedSchema"]["properties"]
    assert shown["legacyEnum"]["enum"] == ["opt1", "opt2", "opt3"], shown
    assert ("oneOf" in shown["titledSingle"]) == known, shown
    assert ("titledMulti" in shown) == known, shown


def several(cell):
    client = cell.open()
    assert cell.call(client, "cell_two").text == "Ada blue", client.asked
    assert len(forms(client)) == 2, client.asked


def rounds(cell):
    client = cell.open()
    said = cell.call(client, "test_input_required_result_multi_round")
    assert said.text == "Ada likes blue.", said
    assert len(forms(client)) == 2, client.asked
    assert cell.call(client, "test_input_required_result_request_state").text == "state-ok"


def prompt(cell):
    client = cell.open()
    got = client.request("prompts/get", {"name": "test_input_required_result_prompt"})
    assert got["messages"][0]["content"]["text"] == "Use this context: sea", got
    assert len(forms(client)) == 1, client.asked


def incapable(cell):
    """A client that declared nothing is asked nothing, and its call ends."""
    client = cell.open(capabilities={})
    for tool in ("cell_act", "cell_open", "test_sampling", "test_input_required_result_list_roots"):
        fails(cell, client, tool)
    assert not client.asked, client.asked


def fails(cell, client, tool, arguments=None):
    """The call ends with an error or with the decline that the provider was told; never hangs."""
    try:
        said = cell.call(client, tool, arguments)
        assert said.failed or said.text in ("action=decline", "action=cancel"), said
        return said
    except RpcError as refusal:
        assert cell.view == "tools", refusal
        return refusal


URL = "https://example.com/open"


def address(cell):
    client = cell.open()
    if cell.client == L and cell.upstream == M:
        # An address alone ends the call there; it is made again by the client.
        refusal = refused(lambda: cell.call(client, "cell_open"), -32042)
        elicitation = refusal.data["elicitations"][0]
        assert elicitation["url"] == URL and elicitation["elicitationId"], refusal.data
        assert elicitation["mode"] == "url", refusal.data
        return
    said = cell.call(client, "cell_open")
    assert said.text == "action=accept", said
    (asked,) = forms(client)
    assert asked["mode"] == "url" and asked["url"] == URL, asked
    # Only 2025-11-25 has the id; between two peers of M nothing is touched.
    assert cell.client == cell.upstream or "elicitationId" not in asked, asked


def no_address(cell):
    """A provider that asks anyway is declined, and the call ends."""
    if cell.upstream == J:
        return
    client = cell.open()
    fails(cell, client, "cell_open")
    assert not client.asked, client.asked


def address_first(cell):
    client, mark = cell.open(), {"mark": uuid.uuid4().hex}
    if cell.client == L:
        refusal = refused(lambda: cell.call(client, "cell_open_first", mark), -32042)
        assert refusal.data["elicitations"][0]["url"] == URL, refusal.data
    said = cell.call(client, "cell_open_first", mark)
    assert said.text == "opened", said
    if cell.client == M:
        (asked,) = forms(client)
        assert asked["url"] == URL and "elicitationId" not in asked, asked


def no_address_first(cell):
    client, mark = cell.open(), {"mark": uuid.uuid4().hex}
    if cell.upstream == L:
        said = cell.call(client, "cell_open_first", mark)
        assert said.failed and URL in said.text, said
    assert cell.call(client, "cell_open_first", mark).text == "opened"


def sampling(cell):
    client = cell.open()
    said = cell.call(client, "test_sampling", {"prompt": "Where?"})
    assert said.text == "LLM response: Paris", said
    assert [method for method, _ in client.asked] == ["sampling/createMessage"], client.asked


def no_sampling(cell):
    client = cell.open()
    fails(cell, client, "test_sampling", {"prompt": "Where?"})
    assert not client.asked, client.asked


def roots(cell):
    client = cell.open()
    said = cell.call(client, "test_input_required_result_list_roots")
    assert "file:///home/ada" in said.text, said


def no_roots(cell):
    client = cell.open()
    fails(cell, client, "test_input_required_result_list_roots")
    assert not client.asked, client.asked


def mixture(cell):
    """A form, a model and the roots in one call."""
    client = cell.open()
    said = cell.call(client, "test_input_required_result_multiple_inputs")
    for part in ("Ada", "Paris", "file:///home/ada"):
        assert part in said.text, said


def no_mixture(cell):
    fails(cell, cell.open(), "test_input_required_result_multiple_inputs")


def same_era(cell):
    return cell.same_era


def urls(cell):
    return J not in (cell.client, cell.upstream)


FORMS = [
    Row("a form that is accepted", accepted),
    Row("a form that is declined or closed", declined),
    Row("fields that an older client does not know", kinds_of_fields),
    Row("several questions at once", several),
    Row("several rounds, and a state between them", rounds),
    Row("a question for a prompt", prompt),
    Row("a client that cannot be asked", incapable),
]
ERAS = [
    Row("sampling", sampling, same_era, 2, no_sampling),
    Row("roots", roots, same_era, 2, no_roots),
    Row("a form, sampling and roots at once", mixture, same_era, 2, no_mixture),
]
URLS = [
    Row("an address to open", address, urls, 4, no_address),
    Row(
        "an address to open first (-32042)",
        address_first,
        lambda cell: cell.upstream == L and cell.client != J,
        lambda cell: 4 if cell.upstream == L else 5,
        no_address_first,
    ),
]
ROWS = FORMS + URLS + ERAS
