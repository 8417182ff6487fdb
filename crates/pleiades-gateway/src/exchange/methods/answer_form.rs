//! In which form a caller's client is answered.

use crate::exchange::request::Request;
use crate::exchange::services::MethodServices;
use crate::facade::form::AnswerForm;
use pleiades_mcp::RawObject;

const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";

/// How much of an answer to this caller stands in `structuredContent`.
pub(super) fn form(services: &MethodServices, request: &Request<'_>, params: &RawObject) -> AnswerForm {
    let forms = &services.shown.forms;
    let decided = request.scope().structured.or_else(|| forms.same_for_all());
    decided.unwrap_or_else(|| forms.of(&client(services, request, params)))
}

/// The name that the caller's client gave itself; empty when it gave none.
pub(super) fn client(services: &MethodServices, request: &Request<'_>, params: &RawObject) -> String {
    let meta: Option<RawObject> = params.read("_meta");
    let info: Option<RawObject> = meta.and_then(|meta| meta.read(CLIENT_INFO));
    let stated = info.and_then(|info| info.read("name"));
    let stated = stated.or_else(|| request.peer().client.map(str::to_owned));
    match (stated, request.session()) {
        (Some(name), _) => name,
        (None, Some(session)) => {
            let sessions = &services.sessions;
            sessions.client(request.principal(), request.scope(), session)
        }
        (None, None) => String::new(),
    }
}
