//! The caches of the instance: what Python sees, too. Keys and values may hold any bytes.

use imperator_worker::host::Host;
use imperator_worker::host::cache::Math;
use imperator_worker::language::NoLock;
use mlua::{Lua, LuaString, Table};

use crate::native::Natives;

/// The name of a cache; without one the default.
type Name = Option<LuaString>;

pub fn add(natives: &mut Natives, uwsgi: &Table, host: &'static Host) {
    let get = move |lua: &Lua, (key, cache): (LuaString, Name)| {
        let mut value = vec![];
        let found = named(&cache, |cache| host.caches().get(&key.as_bytes(), cache, &mut value, &NoLock));
        found.map(|_| lua.create_string(&value)).transpose()
    };
    natives.add(uwsgi, "cache_get", get);
    let store = move |_: &Lua, (key, value, expires, cache): (LuaString, LuaString, Option<i64>, Name)| {
        let (key, value, expires) = (key.as_bytes(), value.as_bytes(), expires.unwrap_or(0));
        Ok(done(named(&cache, |cache| host.caches().set(&key, &value, expires, cache, &NoLock))))
    };
    natives.add(uwsgi, "cache_set", store);
    let update = move |_: &Lua, (key, value, expires, cache): (LuaString, LuaString, Option<i64>, Name)| {
        let (key, value, expires) = (key.as_bytes(), value.as_bytes(), expires.unwrap_or(0));
        Ok(done(named(&cache, |cache| host.caches().update(&key, &value, expires, cache, &NoLock))))
    };
    natives.add(uwsgi, "cache_update", update);
    let delete = move |_: &Lua, (key, cache): (LuaString, Name)| {
        Ok(done(named(&cache, |cache| host.caches().delete(&key.as_bytes(), cache, &NoLock))))
    };
    natives.add(uwsgi, "cache_del", delete);
    let exists = move |_: &Lua, (key, cache): (LuaString, Name)| {
        Ok(done(named(&cache, |cache| host.caches().exists(&key.as_bytes(), cache, &NoLock))))
    };
    natives.add(uwsgi, "cache_exists", exists);
    let clear = move |_: &Lua, cache: Name| Ok(done(named(&cache, |cache| host.caches().clear(cache, &NoLock))));
    natives.add(uwsgi, "cache_clear", clear);
    numbers(natives, uwsgi, host);
    let keys = move |lua: &Lua, cache: Name| {
        let keys = named(&cache, |cache| host.caches().keys(cache, &NoLock));
        let keys = keys.ok_or_else(|| mlua::Error::runtime("uwsgi.cache_keys: there is no such cache in this instance"))?;
        lua.create_sequence_from(keys.iter().map(|key| lua.create_string(key)).collect::<mlua::Result<Vec<_>>>()?)
    };
    natives.add(uwsgi, "cache_keys", keys);
}

fn numbers(natives: &mut Natives, uwsgi: &Table, host: &'static Host) {
    for (name, math, default) in
        [("cache_inc", Math::Add, 1), ("cache_dec", Math::Subtract, 1), ("cache_mul", Math::Multiply, 2), ("cache_div", Math::Divide, 2)]
    {
        let function = move |_: &Lua, (key, operand, expires, cache): (LuaString, Option<i64>, Option<i64>, Name)| {
            let (operand, expires) = (operand.unwrap_or(default), expires.unwrap_or(0));
            Ok(done(named(&cache, |cache| host.caches().math(math, &key.as_bytes(), operand, expires, cache, &NoLock)).is_some()))
        };
        natives.add(uwsgi, name, function);
    }
    let number =
        move |_: &Lua, (key, cache): (LuaString, Name)| Ok(named(&cache, |cache| host.caches().number(&key.as_bytes(), cache, &NoLock)));
    natives.add(uwsgi, "cache_num", number);
}

fn named<R>(name: &Name, f: impl FnOnce(&[u8]) -> R) -> R {
    match name {
        Some(name) => f(&name.as_bytes()),
        None => f(b""),
    }
}

/// True or nil.
fn done(yes: bool) -> Option<bool> {
    yes.then_some(true)
}
