%%% A vault and a registry in one process, which takes time for each call and records the calls in
%%% order. It is a typical provider: a gen_server behind functions.
%%%
%%% One client is watched, identified by its address or by one of several keys. Each call records
%%% whether it is for that client, how many bytes the server has received from it by then, and how
%%% many ports there are.
-module(curve_tun_test_serial).
-behaviour(gen_server).

-export([start_link/0, watch/1, take/1, notes/0, stop/0]).
-export([public_key/0, box/3, box_open/3, safe_nonce/0, verify/3]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(VAULT, curve_tun_vault_nif).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).
stop() -> gen_server:stop(?MODULE).

%% From now on calls are recorded, and this client is watched: `#{address, keys, port}', with the
%% listener's port.
watch(Client) -> gen_server:call(?MODULE, {watch, Client}, infinity).
%% From now on calls of these functions take this many milliseconds.
take(Times) -> gen_server:call(?MODULE, {take, Times}, infinity).
%% Returns the calls since then: `{mine | other, Function, BytesFromTheWatched, Ports}', in order.
notes() -> gen_server:call(?MODULE, notes, infinity).

public_key() -> ?VAULT:public_key().
box(Message, Nonce, Peer) -> ask(box, [Message, Nonce, Peer], Peer).
box_open(Box, Nonce, Peer) -> ask(box_open, [Box, Nonce, Peer], Peer).
safe_nonce() -> ask(safe_nonce, [], none).
verify(_Socket, _Key, #{address := Address}) -> ask(verify, [], Address).

ask(Function, Arguments, Whom) -> gen_server:call(?MODULE, {ask, Function, Arguments, Whom}, infinity).

init([]) -> {ok, #{client => none, times => #{}, notes => []}}.

handle_call({ask, Function, Arguments, Whom}, _From, #{times := Times, notes := Notes, client := Client} = S) ->
    Note = {whose(Whom, Client), Function, received(Client), length(erlang:ports())},
    timer:sleep(maps:get(Function, Times, 0)),
    Answer = case Function of
                 verify -> true;
                 _ -> apply(?VAULT, Function, Arguments)
             end,
    {reply, Answer, S#{notes := [Note || Client =/= none] ++ Notes}};
handle_call({watch, Client}, _From, S) ->
    {reply, ok, S#{client := Client, notes := []}};
handle_call({take, Times}, _From, S) ->
    {reply, ok, S#{times := Times}};
handle_call(notes, _From, #{notes := Notes} = S) ->
    {reply, lists:reverse(Notes), S}.

handle_cast(_, S) -> {noreply, S}.

whose(_Whom, none) ->
    other;
whose(Whom, #{address := Address, keys := Keys}) ->
    case lists:member(Whom, [Address | Keys]) of
        true -> mine;
        false -> other
    end.

%% Returns how much the server's socket for the watched client has received.
received(none) ->
    0;
received(#{address := Address, port := Port}) ->
    lists:max([0 | [Bytes || Tcp <- erlang:ports(), {ok, {Peer, _}} <- [inet:peername(Tcp)], Peer =:= Address,
                             {ok, {_, Own}} <- [inet:sockname(Tcp)], Own =:= Port,
                             {ok, [{recv_oct, Bytes}]} <- [inet:getstat(Tcp, [recv_oct])]]]).
