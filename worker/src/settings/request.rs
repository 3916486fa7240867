//! The wire and the body.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(default)]
pub struct RequestSettings {
    /// `buffer-size`; `None`: the protocol's 65535.
    pub buffer_size: Option<u32>,
    pub socket_timeout: u32,
    pub http_timeout: u32,
    /// `offload-threads`; `None`: one, started when it is first needed; 0: a request thread waits for its peer itself.
    pub offload_threads: Option<u32>,
    /// `offload-timeout`: seconds that a peer may read nothing of a response that no worker waits for.
    pub offload_timeout: u32,
    /// `offload-ahead`: bytes of temporary files for what the apps of a worker are ahead of slow peers.
    pub offload_ahead: u64,
    pub disable_sendfile: bool,
    pub limit_post: u64,
    pub post_buffering: u64,
    pub post_buffering_bufsize: u64,
    /// `post-ahead`: bytes that a worker keeps of long bodies whose apps are not called yet, in memory and on disk.
    pub post_ahead: u64,
    pub manage_script_name: bool,
    pub ignore_script_name: bool,
    pub no_default_app: bool,
    pub max_apps: u32,
    pub vhost: bool,
    pub vhost_host: bool,
    /// Whether a request may name the code to load (UWSGI_FILE ...): off by default, never from an HTTP socket.
    pub dynamic_apps: bool,
    pub disable_write_exception: bool,
    pub add_header: Vec<String>,
    pub del_header: Vec<String>,
    pub enable_proxy_protocol: bool,
    pub chunked_input_limit: u64,
    pub chunked_input_timeout: u32,
    pub http_modifier1: u8,
    pub http_modifier2: u8,
    /// `error-page-403`, `-404`, `-500`: status and file, in order; the first that can be read is the body of our own answer.
    pub error_pages: Vec<(u16, String)>,
    /// `collect-header`: a header of the app's and the variable that keeps its value.
    pub collect_header: Vec<(String, String)>,
    /// The variable whose value, if an app's header has set it, names the file that is sent instead of the app's body.
    pub file_variable: Option<String>,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self {
            buffer_size: None,
            socket_timeout: 4,
            http_timeout: 60,
            offload_threads: None,
            offload_timeout: 60,
            offload_ahead: 256 << 20,
            disable_sendfile: false,
            limit_post: 0,
            post_buffering: 0,
            post_buffering_bufsize: 8192,
            post_ahead: 256 << 20,
            manage_script_name: false,
            ignore_script_name: false,
            no_default_app: false,
            max_apps: 64,
            vhost: false,
            vhost_host: false,
            dynamic_apps: false,
            disable_write_exception: false,
            add_header: vec![],
            del_header: vec![],
            enable_proxy_protocol: false,
            chunked_input_limit: 1 << 20,
            chunked_input_timeout: 4,
            http_modifier1: 0,
            http_modifier2: 0,
            error_pages: vec![],
            collect_header: vec![],
            file_variable: None,
        }
    }
}
