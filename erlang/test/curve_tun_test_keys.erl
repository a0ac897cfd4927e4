%%% A registry only of servers, which knows none.
-module(curve_tun_test_keys).

-export([server_keys/2]).

server_keys(_Host, _Port) -> {error, not_found}.
