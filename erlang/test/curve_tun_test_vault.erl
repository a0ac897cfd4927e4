%%% A vault written in Erlang, over the key of the default vault. It can be told to misbehave.
-module(curve_tun_test_vault).
-behaviour(curve_tun_vault).

-export([public_key/0, box/3, box_open/3, safe_nonce/0, behave/2, well/0]).

%% From now on a call of the function does `How' instead.
behave(Function, How) ->
    persistent_term:put({?MODULE, Function}, How).

well() ->
    [persistent_term:erase(Key) || {{?MODULE, _} = Key, _} <- persistent_term:get()].

public_key() -> do(public_key, fun() -> curve_tun_vault_nif:public_key() end).
box(Message, Nonce, Peer) -> do(box, fun() -> curve_tun_vault_nif:box(Message, Nonce, Peer) end).
box_open(Box, Nonce, Peer) -> do(box_open, fun() -> curve_tun_vault_nif:box_open(Box, Nonce, Peer) end).
safe_nonce() -> do(safe_nonce, fun() -> curve_tun_vault_nif:safe_nonce() end).

do(Function, Well) ->
    case persistent_term:get({?MODULE, Function}, well) of
        well -> Well();
        crash -> error(told_to);
        exit -> exit(told_to);
        throw -> throw(told_to);
        kill -> exit(self(), kill), timer:sleep(infinity);
        hang -> timer:sleep(infinity);
        {slow, Ms} -> timer:sleep(Ms), Well();
        {say, What} -> What
    end.
