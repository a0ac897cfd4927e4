%%% A vault written in Erlang, with the key of the default vault. It can be told to misbehave.
-module(curve_tun_test_vault).
-behaviour(curve_tun_vault).

-export([public_key/0, box/3, box_open/3, safe_nonce/0, behave/2, well/0, meeting/2, most_at_once/1]).

%% From now on a call of the function does `How' instead.
behave(Function, How) ->
    persistent_term:put({?MODULE, Function}, How).

%% A behaviour: calls take some milliseconds, and none returns before this many have been in flight
%% at once.
meeting(Count, Ms) ->
    {meet, counters:new(2, [atomics]), Count, Ms}.

%% Returns how many calls of a meeting have been in flight at once.
most_at_once({meet, Counters, _, _}) ->
    counters:get(Counters, 2).

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
        {meet, Counters, Count, Ms} -> meet(Counters, Count, Ms, Well);
        {say, What} -> What
    end.

meet(Counters, Count, Ms, Well) ->
    counters:add(Counters, 1, 1),
    wait_for(Counters, Count),
    timer:sleep(Ms),
    Result = Well(),
    counters:sub(Counters, 1, 1),
    Result.

%% The call that sees the highest number tells the others, which may see a lower one by then.
wait_for(Counters, Count) ->
    case counters:get(Counters, 1) of
        Now when Now >= Count -> counters:put(Counters, 2, max(Now, counters:get(Counters, 2)));
        _ ->
            case counters:get(Counters, 2) >= Count of
                true -> ok;
                false -> timer:sleep(1), wait_for(Counters, Count)
            end
    end.
