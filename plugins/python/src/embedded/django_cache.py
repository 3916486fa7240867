"""Django's cache in uwsgi.cache_*: CACHES = {'default': {'BACKEND': 'imperator_django_cache.ImperatorCache', 'LOCATION': 'NAME'}}.

As locmem behaves, and shared by all workers: add() and incr() are one step each. Django itself is imported when the class is asked for, and not before.
"""


def __getattr__(name):
    if name != 'ImperatorCache':
        raise AttributeError(name)
    globals()[name] = _backend()
    return globals()[name]


def _backend():
    import math
    import pickle
    import struct

    import uwsgi
    from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

    number = struct.Struct('<q')

    def pack(value):
        # An integer is a number of the cache's own, so that incr() can count in it; whatever else is eight bytes long gets one more,
        # which pickle does not look at.
        if type(value) is int and -(1 << 63) <= value < 1 << 63:
            return number.pack(value)
        packed = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return packed + b'.' if len(packed) == 8 else packed

    def unpack(packed):
        return number.unpack(packed)[0] if len(packed) == 8 else pickle.loads(packed)

    class ImperatorCache(BaseCache):
        def __init__(self, location, params):
            super().__init__(params)
            self._name = location or ''

        def _key(self, key, version):
            return self.make_and_validate_key(key, version=version)

        def _seconds(self, timeout):
            """From now; 0: never; -1: expired at once."""
            if timeout is DEFAULT_TIMEOUT:
                timeout = self.default_timeout
            if timeout is None:
                return 0
            return math.ceil(timeout) if timeout > 0 else -1

        def add(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
            return bool(uwsgi.cache_set(self._key(key, version), pack(value), self._seconds(timeout), self._name))

        def get(self, key, default=None, version=None):
            packed = uwsgi.cache_get(self._key(key, version), self._name)
            return default if packed is None else unpack(packed)

        def set(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
            key = self._key(key, version)
            if not uwsgi.cache_update(key, pack(value), self._seconds(timeout), self._name):
                uwsgi.cache_del(key, self._name)  # what does not fit must not leave the old value behind

        def touch(self, key, timeout=DEFAULT_TIMEOUT, version=None):
            key = self._key(key, version)
            packed = uwsgi.cache_get(key, self._name)
            return packed is not None and bool(uwsgi.cache_update(key, packed, self._seconds(timeout), self._name))

        def incr(self, key, delta=1, version=None):
            full = self._key(key, version)
            if not uwsgi.cache_exists(full, self._name):
                raise ValueError("Key '%s' not found" % key)
            if uwsgi.cache_inc(full, delta, 0, self._name):
                return uwsgi.cache_num(full, self._name)
            return super().incr(key, delta, version)  # a float, or another thing that can be added to

        def delete(self, key, version=None):
            return bool(uwsgi.cache_del(self._key(key, version), self._name))

        def has_key(self, key, version=None):
            return bool(uwsgi.cache_exists(self._key(key, version), self._name))

        def clear(self):
            uwsgi.cache_clear(self._name)

    return ImperatorCache
