%%% @private
%%% The handshake of a connection, between its bytes and the NIF. It is a value held by the
%%% connection process.
-module(curve_tun_handshake).

-export([start/5, bytes/2, answered/3, failed/2, ended/2, transport_failure/1]).
-export_type([handshake/0, role/0, step/0]).

-record(handshake, {
    socket :: gen_tcp:socket(),
    nif :: curve_tun_nif:connection(),
    providers :: curve_tun_provider:providers(),
    %% Obtains the answer to the request: a process, or the NIF's own threads.
    helper :: {pid() | nif, reference()} | undefined,
    %% The provider at fault if no answer comes.
    asked = vault :: vault | registry,
    %% The state while an answer is awaited.
    state = ready :: curve_tun_nif:state(),
    %% Bytes for the NIF once it has its answer.
    rest = <<>> :: binary(),
    %% Whether the peer ended the transport after those bytes.
    ended = false :: boolean()
}).
-opaque handshake() :: #handshake{}.

%% A listener takes the permits for its clients' handshakes itself.
-type role() :: {client, curve_tun_nif:vault(), curve_tun:public_key()} | {server, curve_tun_nif:server() | permitted}.
%% What comes next: more bytes, a provider's answer, or messages (the first ones, and the end after
%% them, may have been received already). While an answer is awaited the socket is read as well, to
%% notice a peer that leaves, unless there is `enough'.
-type step() :: {read, curve_tun_nif:state(), handshake()} | {wait, more | enough, curve_tun_nif:state(), handshake()}
              | {connected, Came :: binary(), Ended :: boolean()} | {error, atom()}.

%% How much a peer may send ahead while it waits for this end. More is not read before the answer
%% arrives.
-define(ENOUGH, 65536).
%% Linux's number for the TCP state after an orderly end by the peer.
-define(CLOSE_WAIT, 8).

%% Begins over a transport. The peer's address is passed in if it is known, since a transport that
%% the peer has reset no longer returns it.
-spec start(role(), curve_tun_provider:providers(), curve_tun_log:peer(), gen_tcp:socket(), curve_tun_nif:connection()) ->
          step().
start(Role, Providers, Peer, Socket, Nif) ->
    H = #handshake{socket = Socket, nif = Nif, providers = Providers#{socket => Socket, source => local}},
    case Role of
        {client, Vault, Key} -> said_hello(curve_tun_nif:begin_client(Nif, Vault, Key), H);
        {server, permitted} -> permitted({ok, []}, H);
        {server, Server} -> heard_of(Peer, Server, H)
    end.

-spec said_hello({ok, binary()} | {error, atom()}, handshake()) -> step().
said_hello({ok, Hello}, H) -> sent(transmit(Hello, H), {read, initiating, H});
said_hello({error, Reason}, _H) -> {error, Reason}.

-spec heard_of(curve_tun_log:peer(), curve_tun_nif:server(), handshake()) -> step().
heard_of({Address, _Port}, Server, #handshake{nif = Nif} = H) ->
    permitted(curve_tun_nif:begin_server(Nif, Server, self(), Address), H);
heard_of(unknown, _Server, #handshake{socket = Socket}) ->
    {error, transport_failure(Socket)}.

%% The server of a single handshake has no other handshake to evict.
-spec permitted({ok, []} | {error, atom()}, handshake()) -> step().
permitted({ok, []}, #handshake{nif = Nif, providers = Providers} = H) ->
    case curve_tun_nif:source(Nif) of
        %% It was evicted.
        none -> {error, too_many_handshakes};
        Source -> {read, ready, H#handshake{providers = Providers#{source := Source}}}
    end;
permitted({error, Reason}, _H) ->
    {error, Reason}.

%% Continues with bytes of the transport.
-spec bytes(binary(), handshake()) -> step().
bytes(Bytes, #handshake{nif = Nif, helper = undefined} = H) ->
    step(curve_tun_nif:handshake(Nif, Bytes), H);
bytes(Bytes, #handshake{rest = Rest} = H) ->
    wait(H#handshake{rest = <<Rest/binary, Bytes/binary>>}).

-spec wait(handshake()) -> step().
wait(#handshake{state = State, rest = Rest} = H) when byte_size(Rest) < ?ENOUGH -> {wait, more, State, H};
wait(#handshake{state = State} = H) -> {wait, enough, State, H}.

-spec step(curve_tun_nif:step(), handshake()) -> step().
step({ok, connected, ToSend, Rest, _}, #handshake{ended = Ended} = H) ->
    sent(transmit(ToSend, H), {connected, Rest, Ended});
step({ok, State, ToSend, Rest, none}, H) ->
    case transmit(ToSend, H) of
        ok when Rest =/= <<>> -> bytes(Rest, H#handshake{rest = <<>>});
        ok when H#handshake.ended -> {error, closed};
        ok -> {read, State, H#handshake{rest = <<>>}};
        {error, Reason} -> {error, Reason}
    end;
step({ok, State, ToSend, Rest, Request}, H) ->
    case transmit(ToSend, H) of
        ok -> ask(Request, H#handshake{state = State, rest = Rest});
        {error, Reason} -> {error, Reason}
    end;
step({error, Reason}, _H) ->
    {error, Reason}.

%% Has a request answered. An answer that is not available at once arrives as a message.
-spec ask(curve_tun_nif:request() | ask, handshake()) -> step().
ask(ask, #handshake{nif = Nif} = H0) ->
    Ref = make_ref(),
    H = H0#handshake{helper = {nif, Ref}},
    case curve_tun_nif:ask(Nif, Ref) of
        answered -> answered(Ref, answered, H);
        later -> wait(H);
        {error, Reason} -> {error, Reason}
    end;
ask(Request, #handshake{providers = Providers} = H) ->
    Asked = case element(1, Request) of
                verify -> registry;
                _ -> vault
            end,
    wait(H#handshake{helper = curve_tun_provider:start(Request, Providers), asked = Asked}).

-spec sent(ok | {error, atom()}, step()) -> step().
sent(ok, Step) -> Step;
sent({error, Reason}, _Step) -> {error, Reason}.

-spec transmit(binary(), handshake()) -> ok | {error, atom()}.
transmit(<<>>, _H) ->
    ok;
transmit(Bytes, #handshake{socket = Socket}) ->
    case gen_tcp:send(Socket, Bytes) of
        ok -> ok;
        {error, closed} -> {error, transport_failure(Socket)};
        {error, Reason} when is_atom(Reason) -> {error, Reason};
        {error, {timeout, _}} -> {error, timeout}
    end.

%% Returns why a transport has stopped: the error that its driver has already reported or reports to
%% a reader, or `closed' if it ended in order.
-spec transport_failure(gen_tcp:socket()) -> closed | inet:posix().
transport_failure(Socket) ->
    receive
        {tcp_error, Socket, Reason} -> Reason
    after 0 ->
        case gen_tcp:recv(Socket, 0, 0) of
            {ok, _} -> transport_failure(Socket);
            {error, Reason} when Reason =:= timeout; Reason =:= einval; Reason =:= enotconn -> closed;
            {error, Reason} -> Reason
        end
    end.

%% Handles a message `{Ref, Answer}': continues if it is the provider's answer. A malformed answer
%% is a failure of the provider.
-spec answered(reference(), term(), handshake()) -> step() | ignore.
answered(Ref, Answer, #handshake{nif = Nif, helper = {_, Ref}, rest = Rest} = H0) ->
    H = H0#handshake{helper = undefined, rest = <<>>},
    try curve_tun_nif:answer(Nif, Answer) of
        {ok, State, ToSend, _, Request} -> step({ok, State, ToSend, Rest, Request}, H);
        {error, Reason} -> {error, Reason}
    catch
        error:badarg -> failure(H)
    end;
answered(_Ref, _Answer, _H) ->
    ignore.

%% Handles the exit of the provider's process without an answer.
-spec failed(pid(), handshake()) -> step() | ignore.
failed(Pid, #handshake{helper = {Pid, _}} = H) -> failure(H);
failed(_Pid, _H) -> ignore.

-spec failure(handshake()) -> {error, vault_failed | registry_failed}.
failure(#handshake{asked = vault}) -> {error, vault_failed};
failure(#handshake{asked = registry}) -> {error, registry_failed}.

%% Handles the end of the transport, in order (`none') or by a failure, which is then the reason.
%% The peer has left, and its request is dropped. But a client that ends in order after its initiate
%% may simply have sent everything it had; that is delivered if the answer lets it in.
-spec ended(Failure :: none | atom(), handshake()) -> step().
ended(none, #handshake{helper = Helper, state = accepting} = H) when Helper =/= undefined ->
    {wait, enough, accepting, H#handshake{ended = true}};
ended(none, #handshake{nif = Nif, socket = Socket}) ->
    %% The end says something about the server's key only if the peer has read what was sent.
    case was_read(Socket) of
        true -> {error, curve_tun_nif:transport_ended(Nif)};
        false -> {error, closed}
    end;
ended(Failure, _H) ->
    {error, Failure}.

%% Says whether a peer that has ended the transport had read everything sent to it. A peer that
%% closes without reading also appears to end in order at first, but then its kernel has not
%% acknowledged the bytes, or has reset the transport. Linux reports this in TCP_INFO: the state,
%% and at offset 24 the number of unacknowledged packets. Elsewhere the end counts as orderly.
-spec was_read(gen_tcp:socket()) -> boolean().
was_read(Socket) ->
    case os:type() =:= {unix, linux} andalso inet:getopts(Socket, [{raw, 6, 11, 32}]) of
        {ok, [{raw, 6, 11, <<State, _:23/binary, Unacknowledged:32/native, _/binary>>}]} ->
            State =:= ?CLOSE_WAIT andalso Unacknowledged =:= 0;
        _ ->
            true
    end.
