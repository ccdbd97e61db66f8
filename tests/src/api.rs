//! A client of the REST API as operators' programs are: login, requests, JSON.
//!
//! In: a node that serves its API. Out: answers. Elsewhere: the dialect's own tests (crate `api`).

use crate::PATIENCE;
use crate::node::Node;
use serde_json::Value as Json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The section of a node's file that lets it serve its API.
pub const SERVED: &str = "[api]\nlisten = \"127.0.0.1:0\"";

/// Somebody who is logged in.
pub struct Api {
    address: SocketAddr,
    level: &'static str,
    token: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP's status code.
    pub status: u16,
    /// The body; null when it is no JSON.
    pub body: Json,
}

/// Where the node serves its API.
///
/// # Panics
/// When it does not.
pub fn address(node: &mut Node) -> SocketAddr {
    let line = node.process().line_with(" API address=", PATIENCE).expect("the node serves its API");
    logged_address(&line)
}

/// The address that a line of a node's log names.
///
/// # Panics
/// When it names none.
pub fn logged_address(line: &str) -> SocketAddr {
    let address = line.split_whitespace().find_map(|word| word.strip_prefix("address="));
    address.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no address in {line}"))
}

/// Whether somebody can log in.
pub fn answers_login(address: SocketAddr, level: &str, name: &str, password: &str) -> bool {
    let form = format!("username={name}&password={password}");
    exchange(address, "POST", &format!("/api/{level}/admin_login"), None, &form).status == 200
}

impl Api {
    /// Logs in at a level.
    ///
    /// # Panics
    /// When that fails.
    pub fn log_in(address: SocketAddr, level: &'static str, name: &str, password: &str) -> Api {
        let form = format!("username={name}&password={password}");
        let answer = exchange(address, "POST", &format!("/api/{level}/admin_login"), None, &form);
        let token = answer.body["token"].as_str();
        let token = token.unwrap_or_else(|| panic!("{name} cannot log in: {answer:?}"));
        Api { address, level, token: token.to_owned() }
    }

    /// The same administrator within one brand or client of the level below.
    ///
    /// # Panics
    /// When that is refused.
    pub fn within(&self, level: &'static str, field: &str, id: u64) -> Api {
        let form = format!("token={}&{field}={id}", self.token);
        let answer = exchange(self.address, "POST", &format!("/api/{level}/token/exchange"), None, &form);
        let token = answer.body["token"].as_str();
        let token = token.unwrap_or_else(|| panic!("{field} {id} is refused: {answer:?}"));
        Api { address: self.address, level, token: token.to_owned() }
    }

    /// The first administrator of a node, with the password that the node wrote at its first start.
    ///
    /// # Panics
    /// When there is none.
    pub fn platform(node: &mut Node) -> Api {
        let password =
            std::fs::read_to_string(node.data().join("first-password")).expect("there is a first password");
        Api::log_in(address(node), "platform", "admin", password.trim())
    }

    /// Talks to this address from now on: the node was restarted.
    pub fn go_to(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// Sends a request below the level's path.
    pub fn send(&self, method: &str, path: &str, body: &Json) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        exchange(self.address, method, &format!("/api/{}/{path}", self.level), Some(&self.token), &body)
    }

    /// Makes a row; out: its id.
    ///
    /// # Panics
    /// When it is refused.
    pub fn create(&self, path: &str, body: &Json) -> u64 {
        let answer = self.send("POST", path, body);
        assert_eq!(answer.status, 201, "POST {path} {body}: {}", answer.body);
        answer.body["id"].as_u64().expect("a row has an id")
    }

    /// Changes a row.
    ///
    /// # Panics
    /// When it is refused.
    pub fn change(&self, path: &str, body: &Json) -> Json {
        let answer = self.send("PUT", path, body);
        assert_eq!(answer.status, 200, "PUT {path} {body}: {}", answer.body);
        answer.body
    }

    /// The rows of a list.
    ///
    /// # Panics
    /// When it is refused.
    pub fn list(&self, path: &str) -> Vec<Json> {
        let answer = self.send("GET", path, &Json::Null);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        answer.body.as_array().cloned().expect("a list")
    }
}

fn exchange(address: SocketAddr, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
    let kind = if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Accept: application/json\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).expect("the API is there");
    stream.set_read_timeout(Some(PATIENCE)).expect("a stream has time-outs");
    stream.write_all(request.as_bytes()).expect("the request leaves");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer comes");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status =
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has an empty line");
    Answer { status, body: serde_json::from_str(body).unwrap_or(Json::Null) }
}
