%%% A registry written in Erlang that is given candidates, and knows servers; a test defines both.
-module(curve_tun_test_servers).
-behaviour(curve_tun_registry).

-export([verify/2, verify/3, server_keys/2, behave/1]).

%% A function of three arguments decides about clients, one of two knows servers.
behave(Fun) ->
    {arity, Arity} = erlang:fun_info(Fun, arity),
    persistent_term:put({?MODULE, Arity}, Fun).

verify(_Socket, _Key) -> error(not_asked).
verify(Socket, Key, Candidate) -> (persistent_term:get({?MODULE, 3}))(Socket, Key, Candidate).
server_keys(Host, Port) -> (persistent_term:get({?MODULE, 2}))(Host, Port).
