//! Logging in over gRPC.
//!
//! Elsewhere: passwords, tokens and counting failures (`auth`).

use super::{Service, status, wrong};
use crate::auth;
use crate::http::{Ask, Format, Query};
use crate::proof::Proof;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use bytes::Bytes;
use model::define::Level;
use proto::v1::access_server::Access;
use proto::v1::{LogInRequest, LogInResponse};
use std::net::SocketAddr;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Access for Service {
    async fn log_in(&self, request: Request<LogInRequest>) -> Result<Response<LogInResponse>, Status> {
        let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        let host = request.metadata().get("host").and_then(|host| host.to_str().ok());
        let host = host.and_then(|host| HeaderValue::from_str(host).ok());
        let LogInRequest { level, name, password } = request.into_inner();
        let named = |known: &Level| known.name() == if level.is_empty() { "platform" } else { &level };
        let known = Level::ALL.into_iter().find(named);
        let level = known.ok_or_else(|| wrong("level", "write platform, brand, client or user"))?;
        let field = if level == Level::User { "email" } else { "username" };
        let form = serde_json::json!({ field: name, "password": password });
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(host) = host {
            headers.insert(header::HOST, host);
        }
        let ask = Ask {
            level,
            method: Method::POST,
            path: Vec::new(),
            raw_path: String::new(),
            query: Query::default(),
            headers,
            proof: Proof::default(),
            body: Bytes::from(form.to_string()),
            format: Format::Json,
            from,
            memory: None,
        };
        let pair = auth::login(&self.api.tokens, &self.api.live, &ask).await.map_err(status)?;
        let token = pair.get("token").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        Ok(Response::new(LogInResponse { token }))
    }
}
