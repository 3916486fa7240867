//! What a request says about how it wants a file.

use imperator_protocol::vars::Vars;

/// Request headers, and where the request goes. The last variable of a name counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked<'v> {
    pub head: bool,
    pub path_info: &'v [u8],
    pub uri: &'v [u8],
    pub if_match: Option<&'v [u8]>,
    pub if_none_match: Option<&'v [u8]>,
    pub if_modified_since: Option<&'v [u8]>,
    pub if_unmodified_since: Option<&'v [u8]>,
    pub if_range: Option<&'v [u8]>,
    pub range: Option<&'v [u8]>,
    pub accept_encoding: Option<&'v [u8]>,
}

impl<'v> Asked<'v> {
    pub fn read(vars: Vars<'v>) -> Self {
        let mut asked = Self::default();
        for (name, value) in vars {
            match name {
                b"REQUEST_METHOD" => asked.head = value == b"HEAD",
                b"PATH_INFO" => asked.path_info = value,
                b"REQUEST_URI" => asked.uri = value,
                b"HTTP_IF_MATCH" => asked.if_match = Some(value),
                b"HTTP_IF_NONE_MATCH" => asked.if_none_match = Some(value),
                b"HTTP_IF_MODIFIED_SINCE" => asked.if_modified_since = Some(value),
                b"HTTP_IF_UNMODIFIED_SINCE" => asked.if_unmodified_since = Some(value),
                b"HTTP_IF_RANGE" => asked.if_range = Some(value),
                b"HTTP_RANGE" => asked.range = Some(value),
                b"HTTP_ACCEPT_ENCODING" => asked.accept_encoding = Some(value),
                _ => {}
            }
        }
        asked
    }
}
