%%% @private
%%% The handshake of a connection, between its bytes and the NIF: a value of the connection process.
-module(curve_tun_handshake).

-export([start/4, bytes/2, answered/3, failed/2, transport_ended/2, stop/1]).
-export_type([handshake/0, role/0, step/0]).

-record(handshake, {
    socket :: gen_tcp:socket(),
    nif :: curve_tun_nif:connection(),
    providers :: curve_tun_provider:providers(),
    %% Who has the request answered: a process, or the NIF's own threads.
    helper :: {pid() | nif, reference()} | undefined,
    %% Whose failure it is if nothing comes of it.
    asked = vault :: vault | registry,
    %% Bytes that the NIF takes when it has its answer.
    rest = <<>> :: binary()
}).
-opaque handshake() :: #handshake{}.

-type role() :: {client, curve_tun_nif:vault(), curve_tun:public_key()} | {server, curve_tun_nif:server()}.
%% What comes next: more bytes, an answer of a provider, messages (the first ones may have come already).
-type step() :: {read, curve_tun_nif:state(), handshake()} | {wait, curve_tun_nif:state(), handshake()}
              | {connected, Came :: binary()} | {error, atom()}.

%% Linux's number for the state of a transport that the peer has ended in order.
-define(CLOSE_WAIT, 8).

-spec start(role(), curve_tun_provider:providers(), gen_tcp:socket(), curve_tun_nif:connection()) -> step().
start(Role, Providers, Socket, Nif) ->
    H = #handshake{socket = Socket, nif = Nif, providers = Providers#{socket => Socket}},
    case Role of
        {client, Vault, Key} -> said_hello(curve_tun_nif:begin_client(Nif, Vault, Key), H);
        {server, Server} -> heard_of(inet:peername(Socket), Server, H)
    end.

-spec said_hello({ok, binary()} | {error, atom()}, handshake()) -> step().
said_hello({ok, Hello}, H) -> sent(transmit(Hello, H), {read, initiating, H});
said_hello({error, Reason}, _H) -> {error, Reason}.

-spec heard_of({ok, {inet:ip_address(), inet:port_number()}} | {error, term()}, curve_tun_nif:server(), handshake()) ->
          step().
heard_of({ok, {Address, _Port}}, Server, #handshake{nif = Nif} = H) ->
    case curve_tun_nif:begin_server(Nif, Server, Address) of
        ok -> {read, ready, H};
        {error, Reason} -> {error, Reason}
    end;
heard_of({error, _}, _Server, _H) ->
    {error, closed}.

%% Goes on with bytes of the transport.
-spec bytes(binary(), handshake()) -> step().
bytes(Bytes, #handshake{nif = Nif} = H) ->
    step(curve_tun_nif:handshake(Nif, Bytes), H).

-spec step(curve_tun_nif:step(), handshake()) -> step().
step({ok, connected, ToSend, Rest, _}, H) ->
    sent(transmit(ToSend, H), {connected, Rest});
step({ok, State, ToSend, Rest, none}, H) ->
    case transmit(ToSend, H) of
        ok when Rest =:= <<>> -> {read, State, H#handshake{rest = <<>>}};
        ok -> bytes(Rest, H);
        {error, Reason} -> {error, Reason}
    end;
step({ok, State, ToSend, Rest, Request}, H) ->
    case transmit(ToSend, H) of
        ok -> ask(Request, State, H#handshake{rest = Rest});
        {error, Reason} -> {error, Reason}
    end;
step({error, Reason}, _H) ->
    {error, Reason}.

%% Has a request answered; an answer that is not known at once comes as a message.
-spec ask(curve_tun_nif:request() | ask, curve_tun_nif:state(), handshake()) -> step().
ask(ask, State, #handshake{nif = Nif} = H0) ->
    Ref = make_ref(),
    H = H0#handshake{helper = {nif, Ref}},
    case curve_tun_nif:ask(Nif, Ref) of
        answered -> answered(Ref, answered, H);
        later -> {wait, State, H};
        {error, Reason} -> {error, Reason}
    end;
ask(Request, State, #handshake{providers = Providers} = H) ->
    Asked = case element(1, Request) of
                verify -> registry;
                _ -> vault
            end,
    {wait, State, H#handshake{helper = curve_tun_provider:start(Request, Providers), asked = Asked}}.

-spec sent(ok | {error, atom()}, step()) -> step().
sent(ok, Step) -> Step;
sent({error, Reason}, _Step) -> {error, Reason}.

-spec transmit(binary(), handshake()) -> ok | {error, closed}.
transmit(<<>>, _H) ->
    ok;
transmit(Bytes, #handshake{socket = Socket}) ->
    case gen_tcp:send(Socket, Bytes) of
        ok -> ok;
        {error, _} -> {error, closed}
    end.

%% A message `{Ref, Answer}': goes on if it is the provider's answer. A provider may answer nonsense: that is its
%% failure.
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

%% The transport ended before the handshake did. Only an end in order, by a peer that has read what we sent, says
%% anything about the server's key.
-spec transport_ended(Broken :: boolean(), handshake()) -> atom().
transport_ended(Broken, #handshake{nif = Nif, socket = Socket}) ->
    case not Broken andalso was_read(Socket) of
        true -> curve_tun_nif:transport_ended(Nif);
        false -> closed
    end.

%% Whether a peer that has ended the transport had read all that we sent. One that closes without is at first seen to
%% end in order, too: but then its kernel has not acknowledged our bytes, or has reset the transport. Linux says so
%% (TCP_INFO: the state, then at offset 24 the packets that are not acknowledged); elsewhere the end counts as in order.
-spec was_read(gen_tcp:socket()) -> boolean().
was_read(Socket) ->
    case os:type() =:= {unix, linux} andalso inet:getopts(Socket, [{raw, 6, 11, 32}]) of
        {ok, [{raw, 6, 11, <<State, _:23/binary, Unacknowledged:32/native, _/binary>>}]} ->
            State =:= ?CLOSE_WAIT andalso Unacknowledged =:= 0;
        _ ->
            true
    end.

-spec stop(handshake()) -> ok.
stop(#handshake{helper = {Pid, _}}) when is_pid(Pid) -> exit(Pid, kill), ok;
stop(#handshake{}) -> ok.
