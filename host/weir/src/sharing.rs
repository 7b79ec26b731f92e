//! Does a policy's key tell users apart? Where a route lets its policy store what is meant
//! for one user, `weir check` asks the component.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Uri};
use weir_proxy::{Explanation, Node, route_label};

use std::sync::Arc;

use crate::config::{Problem, Route};

/// The doubts that no answer of the component clears. A cookie or a header field of the
/// site's own may tell users apart too; that the key names a cookie is taken for it.
pub(crate) async fn doubts<'a>(node: &Arc<Node>, routes: &'a [Route]) -> Vec<&'a Problem> {
    let mut doubts = Vec::new();
    for route in routes {
        if let Some(doubt) = &route.sharing_doubt
            && !tells_users_apart(node, route).await
        {
            doubts.push(doubt);
        }
    }
    doubts
}

async fn tells_users_apart(node: &Arc<Node>, route: &Route) -> bool {
    let mut seen = false;
    for method in [Method::GET, Method::QUERY, Method::POST] {
        let one = ask(node, route, &method, "Bearer one").await;
        let other = ask(node, route, &method, "Bearer other").await;
        // What is not looked up is not stored.
        let (Some(one), Some(other)) = (one, other) else {
            continue;
        };
        let names_cookie = one.key_parts.iter().any(|part| part.starts_with("cookie "));
        if one.key == other.key && !names_cookie {
            return false;
        }
        seen = true;
    }
    seen
}

/// What is said of a request to the route, if that is looked up.
async fn ask(
    node: &Arc<Node>,
    route: &Route,
    method: &Method,
    authorization: &'static str,
) -> Option<Explanation> {
    let host = route.host.as_deref().unwrap_or("any.invalid");
    let path = route.path.example();
    let url: Uri = format!("http://{host}{path}").parse().ok()?;
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_static(authorization));
    let content = match *method {
        Method::GET => Bytes::new(),
        _ => Bytes::from_static(b"{}"),
    };
    let told = node
        .explain(method.clone(), &url, headers, content, None)
        .await
        .ok()?;
    let label = route_label(route.host.as_deref(), route.path.as_str());
    let is_it = told.route == *label && told.decision == "lookup" && told.key.is_some();
    is_it.then_some(told)
}
