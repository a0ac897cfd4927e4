%%% @private
%%% Trust on first use: the file of the servers that a client knows. The NIF decides what follows
%%% from it (curve_tun_connector).
%%%
%%% Access to the file, and the program's own function, run in a process of their own, so that the
%%% caller's timeout holds whatever they do.
-module(curve_tun_known_servers).

-export([server/2, look_up/4, first_use/4, remember/4]).
-export_type([server/0]).

%% A server as registries name it.
-type server() :: {Host :: binary(), inet:port_number()}.

%% Returns the name of a server, from the address or name by which a program connects.
-spec server(term(), term()) -> {ok, server()} | {error, badarg}.
server(Host, Port) ->
    try curve_tun_nif:server_host(text(Host), Port) of
        {ok, Name} -> {ok, {Name, Port}};
        {error, badarg} -> {error, badarg}
    catch
        error:_ -> {error, badarg}
    end.

-spec text(inet:ip_address() | inet:hostname()) -> binary().
text(Host) when is_tuple(Host) -> list_to_binary(inet:ntoa(Host));
text(Host) when is_list(Host) -> list_to_binary(Host);
text(Host) when is_atom(Host), Host =/= any, Host =/= loopback -> atom_to_binary(Host).

%% Returns what is known of a server and a key that it offers.
-spec look_up(curve_tun_options:options(), server(), curve_tun:public_key(), curve_tun_time:deadline()) ->
          {ok, curve_tun_nif:known_keys()} | {error, atom()}.
look_up(#{known_servers := Path}, {Host, Port}, Key, Deadline) ->
    with_file(Path, fun(Known) -> curve_tun_nif:known_look_up(Known, Host, Port, Key) end, Deadline).

%% Decides about an unknown server. A function that crashes, hangs or returns anything else refuses.
-spec first_use(curve_tun_options:options(), server(), curve_tun:public_key(), curve_tun_time:deadline()) ->
          refuse | once | remember.
first_use(#{first_use := Decide}, {Host, Port}, Key, Deadline) when is_function(Decide) ->
    case curve_tun_provider:call(fun() -> Decide(Host, Port, Key) end, Deadline) of
        {ok, once} -> once;
        {ok, remember} -> remember;
        _ -> refuse
    end;
first_use(#{first_use := FirstUse}, _Server, _Key, _Deadline) ->
    FirstUse;
first_use(_Own, _Server, _Key, _Deadline) ->
    refuse.

%% Writes down a key that a server has proven.
-spec remember(curve_tun_options:options(), server(), curve_tun:public_key(), curve_tun_time:deadline()) ->
          ok | {error, curve_tun_nif:refusal()}.
remember(#{known_servers := Path}, {Host, Port}, Key, Deadline) ->
    with_file(Path, fun(Known) -> curve_tun_nif:known_remember(Known, Host, Port, Key) end, Deadline).

%% The file stays open while the application runs, so that a file that disappears is noticed and not
%% created again.
-spec with_file(binary(), fun((curve_tun_nif:known()) -> Done | {error, Reason}), curve_tun_time:deadline()) ->
          Done | {error, Reason | atom()}.
with_file(Path, Do, Deadline) ->
    Open = fun() -> curve_tun_nif:known_open(Path) end,
    Work = fun() ->
               case curve_tun_handles:get_or_make({known_servers, Path}, Open) of
                   {ok, Known} -> Do(Known);
                   {error, Reason} -> {error, Reason}
               end
           end,
    case curve_tun_provider:call(Work, Deadline) of
        {ok, Result} -> Result;
        {error, timeout} -> {error, timeout};
        {error, failed} -> {error, internal}
    end.
