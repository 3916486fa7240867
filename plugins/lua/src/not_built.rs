//! The functions of the `uwsgi` table that this version does not have yet. They are there by name, and say so when they are called.

use mlua::{Lua, MultiValue, Table};

use crate::native::Natives;

const NAMES: &str = "\
add_cron add_file_monitor add_ms_timer add_rb_timer add_timer alarm async_connect async_sleep \
call farm_get_msg farm_msg i_am_the_lord is_locked lock \
metric_dec metric_div metric_get metric_inc metric_mul metric_set metric_set_max metric_set_min mule_get_msg mule_msg \
register_rpc register_signal route rpc rpc_list signal signal_registered signal_wait spool unlock wait_fd_read wait_fd_write \
websocket_handshake websocket_recv websocket_recv_nb websocket_send websocket_send_binary websocket_send_binary_from_sharedarea \
websocket_send_from_sharedarea";

pub fn add(natives: &mut Natives, uwsgi: &Table) {
    for name in NAMES.split_whitespace() {
        let missing = move |_: &Lua, _: MultiValue| -> mlua::Result<()> {
            Err(mlua::Error::runtime(format!("uwsgi.{name}() is not built into this version yet")))
        };
        natives.add(uwsgi, name, missing);
    }
}
