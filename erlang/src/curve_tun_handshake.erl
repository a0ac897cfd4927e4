%%% @private
%%% The handshake of a connection, between its bytes and the NIF: a value of the connection process.
-module(curve_tun_handshake).

-export([start/5, bytes/2, answered/3, failed/2, ended/2, transport_failure/1]).
-export_type([handshake/0, role/0, step/0]).

-record(handshake, {
    socket :: gen_tcp:socket(),
    nif :: curve_tun_nif:connection(),
    providers :: curve_tun_provider:providers(),
    %% Who has the request answered: a process, or the NIF's own threads.
    helper :: {pid() | nif, reference()} | undefined,
    %% Whose failure it is if nothing comes of it.
    asked = vault :: vault | registry,
    %% Where it stands while an answer is awaited.
    state = ready :: curve_tun_nif:state(),
    %% Bytes that the NIF takes when it has its answer.
    rest = <<>> :: binary(),
    %% Whether the peer has ended the transport after them.
    ended = false :: boolean()
}).
-opaque handshake() :: #handshake{}.

%% A listener takes the permits for its clients' handshakes itself.
-type role() :: {client, curve_tun_nif:vault(), curve_tun:public_key()} | {server, curve_tun_nif:server() | permitted}.
%% What comes next: more bytes, an answer of a provider, messages (the first ones may have come
%% already, and their end). While an answer is awaited the socket is read as well, so that a peer's
%% leaving is seen, unless it has `enough'.
-type step() :: {read, curve_tun_nif:state(), handshake()} | {wait, more | enough, curve_tun_nif:state(), handshake()}
              | {connected, Came :: binary(), Ended :: boolean()} | {error, atom()}.

%% What a peer may send ahead while it waits for us: more is not read before the answer is there.
-define(ENOUGH, 65536).
%% Linux's number for the state of a transport that the peer has ended in order.
-define(CLOSE_WAIT, 8).

%% Begins over a transport whose other end is the peer's, if it is known: one that the peer has
%% reset does not tell any more.
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

%% A server of one handshake's own has nobody to evict.
-spec permitted({ok, []} | {error, atom()}, handshake()) -> step().
permitted({ok, []}, #handshake{nif = Nif, providers = Providers} = H) ->
    case curve_tun_nif:source(Nif) of
        %% It was evicted.
        none -> {error, too_many_handshakes};
        Source -> {read, ready, H#handshake{providers = Providers#{source := Source}}}
    end;
permitted({error, Reason}, _H) ->
    {error, Reason}.

%% Goes on with bytes of the transport.
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

%% Has a request answered; an answer that is not known at once comes as a message.
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

%% Why a transport does not go on: what its driver has told already, or tells who reads. `closed' if
%% it has ended in order.
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

%% A message `{Ref, Answer}': goes on if it is the provider's answer. A provider may answer
%% nonsense: that is its failure.
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

%% The provider's process has ended without an answer.
-spec failed(pid(), handshake()) -> step() | ignore.
failed(Pid, #handshake{helper = {Pid, _}} = H) -> failure(H);
failed(_Pid, _H) -> ignore.

-spec failure(handshake()) -> {error, vault_failed | registry_failed}.
failure(#handshake{asked = vault}) -> {error, vault_failed};
failure(#handshake{asked = registry}) -> {error, registry_failed}.

%% The transport has ended, in order (`none') or by a failure: then that is the reason. The peer has
%% left, and its question goes with it; but a client that ends in order after its initiate may have
%% said all that it had to say, and that is handed over should the answer let it in.
-spec ended(Failure :: none | atom(), handshake()) -> step().
ended(none, #handshake{helper = Helper, state = accepting} = H) when Helper =/= undefined ->
    {wait, enough, accepting, H#handshake{ended = true}};
ended(none, #handshake{nif = Nif, socket = Socket}) ->
    %% Only an end by a peer that has read what we sent says anything about the server's key.
    case was_read(Socket) of
        true -> {error, curve_tun_nif:transport_ended(Nif)};
        false -> {error, closed}
    end;
ended(Failure, _H) ->
    {error, Failure}.

%% Whether a peer that has ended the transport had read all that we sent. One that closes without is
%% at first seen to end in order, too: but then its kernel has not acknowledged our bytes, or has
%% reset the transport. Linux says so (TCP_INFO: the state, then at offset 24 the packets that are
%% not acknowledged); elsewhere the end counts as in order.
-spec was_read(gen_tcp:socket()) -> boolean().
was_read(Socket) ->
    case os:type() =:= {unix, linux} andalso inet:getopts(Socket, [{raw, 6, 11, 32}]) of
        {ok, [{raw, 6, 11, <<State, _:23/binary, Unacknowledged:32/native, _/binary>>}]} ->
            State =:= ?CLOSE_WAIT andalso Unacknowledged =:= 0;
        _ ->
            true
    end.
