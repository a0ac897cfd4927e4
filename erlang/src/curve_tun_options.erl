%%% @private
%%% The options of connect, listen and handshake: those of the tunnel, and those passed on to
%%% gen_tcp.
-module(curve_tun_options).

-export([parse/2, check_settable/1, accepted_socket/1, refused/2]).
-export_type([options/0]).

-type options() :: #{key => curve_tun:public_key(), vault => module(), registry => module(),
                     known_servers => file:filename_all(), first_use => curve_tun:first_use(), listener := binary(),
                     active := curve_tun:active(), handshake_timeout := timeout(),
                     receive_high_water := pos_integer(), handshakes_max := pos_integer(),
                     handshakes_per_source := pos_integer() | infinity, buffer := pos_integer(),
                     event_handler => {module(), term()},
                     packet => curve_tun_nif:packet(), packet_size => pos_integer(), service => binary()}.

-define(ACTIVE_MIN, -32768).
-define(ACTIVE_MAX, 32767).

%% Maximum size of one read of a busy socket: OTP's default of 1460 bytes takes several times as
%% long. A socket may keep a whole buffer ready, so one with little to read gets a small one.
-define(BUFFER, 131072).
-define(SMALL_BUFFER, 4096).
%% Limits data that is sealed and not taken by the kernel: each peer can send this much before
%% either reads.
-define(HIGH_WATERMARK, 67108864).
%% The default maximum of Linux. A client that finds the backlog full tries again after a second.
-define(BACKLOG, 4096).
-define(SEND_TIMEOUT, 5000).
%% The longest time, and the largest size, that the BEAM and the system accept.
-define(TIME_MAX, 16#ffffffff).
-define(SIZE_MAX, 16#7fffffff).
%% Options of gen_tcp that can only be set when a socket is created.
-define(AT_THE_START, [ip, ifaddr, port, fd, backlog, netns, bind_to_device, tcp_module, inet, inet6]).

%% Extracts the tunnel's options. Returns the rest together with what the tunnel needs of a gen_tcp
%% socket.
-spec parse(client | server | accepted, [curve_tun:option()]) ->
          {ok, options(), [term()]} | {error, curve_tun:option_error()}.
parse(Side, Given) ->
    Defaults = #{active => false, handshake_timeout => 10000, receive_high_water => 262144, listener => <<>>,
                 handshakes_max => 1024, handshakes_per_source => infinity, buffer => ?BUFFER},
    try
        {Options, Tcp} = lists:foldl(fun option/2, {Defaults, []}, proper(Given)),
        ok = check_side(Side, Options, Given),
        {ok, Options, tcp_options(Side, lists:reverse(Tcp))}
    catch
        throw:Reason -> {error, Reason}
    end.

%% Refuses options that mean nothing at an end, so that nobody believes that a key is checked, or a
%% limit enforced, when it is not. Only a client that connects by name checks a key that it knows.
-spec check_side(client | server | accepted, map(), [term()]) -> ok.
check_side(Side, Options, Given) ->
    Strange = strange(Side, Options),
    _ = [throw({bad_option, Option}) || Option <- Given, lists:member(name(Option), Strange)],
    %% Otherwise both ends would only notice when they are about to let a peer in.
    _ = [throw({bad_option, {Kind, Module}})
         || {Kind, Module} <- maps:to_list(maps:with([vault, registry], Options)),
            not curve_tun_provider:is_provider(asked(Side, Kind), Module)],
    _ = [throw({bad_option, Option}) || {packet_size, _} = Option <- Given, maps:get(packet, Options, 0) =/= 4],
    case Options of
        #{service := _} when not is_map_key(packet, Options) -> throw({missing_option, packet});
        #{first_use := _} when not is_map_key(known_servers, Options) -> throw({missing_option, known_servers});
        #{} -> ok
    end.

%% A client asks a registry only for servers.
-spec asked(client | server | accepted, vault | registry) -> vault | registry | servers.
asked(client, registry) -> servers;
asked(_Side, Kind) -> Kind.

-spec name(term()) -> term().
name(Option) when is_tuple(Option), tuple_size(Option) > 0 -> element(1, Option);
name(Option) -> Option.

-spec strange(client | server | accepted, map()) -> [atom()].
strange(client, _Options) -> [listener, handshakes_max, handshakes_per_source, backlog];
strange(server, _Options) -> [key, service, known_servers, first_use];
strange(accepted, #{key := _}) -> [registry, listener | strange(accepted, #{})];
strange(accepted, _Options) -> [service, known_servers, first_use, handshakes_max, handshakes_per_source | ?AT_THE_START].

-spec proper(term()) -> [term()].
proper(Given) ->
    try length(Given) of _ -> Given
    catch error:_ -> throw({bad_option, Given})
    end.

-spec option(term(), {map(), [term()]}) -> {map(), [term()]}.
option({key, Key}, {Own, Tcp}) when is_binary(Key), byte_size(Key) =:= 32 -> {Own#{key => Key}, Tcp};
option({vault, Module}, {Own, Tcp}) when is_atom(Module) -> {Own#{vault => Module}, Tcp};
option({registry, Module}, {Own, Tcp}) when is_atom(Module) -> {Own#{registry => Module}, Tcp};
option({known_servers, Path} = Option, {Own, Tcp}) -> {Own#{known_servers => path(Path, Option)}, Tcp};
option({first_use, FirstUse}, {Own, Tcp})
  when FirstUse =:= refuse; FirstUse =:= once; FirstUse =:= remember; is_function(FirstUse, 3) ->
    {Own#{first_use => FirstUse}, Tcp};
option({listener, Given} = Option, {Own, Tcp}) ->
    Name = text(Given, Option),
    is_listener_name(Name) orelse throw({bad_option, Option}),
    {Own#{listener => Name}, Tcp};
option({event_handler, Handler} = Option, {Own, Tcp}) ->
    curve_tun_events:is_handler(Handler) orelse throw({bad_option, Option}),
    {Own#{event_handler => Handler}, Tcp};
option({handshake_timeout, infinity}, {Own, Tcp}) -> {Own#{handshake_timeout => infinity}, Tcp};
option({handshake_timeout, Ms}, {Own, Tcp}) when is_integer(Ms), Ms > 0, Ms =< ?TIME_MAX ->
    {Own#{handshake_timeout => Ms}, Tcp};
option({receive_high_water, N}, {Own, Tcp}) when is_integer(N), N > 0 -> {Own#{receive_high_water => N}, Tcp};
option({handshakes_max, N}, {Own, Tcp}) when is_integer(N), N > 0, N =< 16#ffffffff ->
    {Own#{handshakes_max => N}, Tcp};
option({handshakes_per_source, infinity}, {Own, Tcp}) -> {Own#{handshakes_per_source => infinity}, Tcp};
option({handshakes_per_source, N}, {Own, Tcp}) when is_integer(N), N > 0 ->
    {Own#{handshakes_per_source => N}, Tcp};
option({buffer, N}, {Own, Tcp}) when is_integer(N), N > 0, N =< ?SIZE_MAX -> {Own#{buffer => N}, Tcp};
option({active, Active} = Option, {Own, Tcp}) ->
    is_active(Active) orelse throw({bad_option, Option}),
    {Own#{active => Active}, Tcp};
option({packet, 0}, {Own, Tcp}) -> {maps:remove(packet, Own), Tcp};
option({packet, Packet}, {Own, Tcp}) when Packet =:= raw; Packet =:= 4 -> {Own#{packet => Packet}, Tcp};
option({packet_size, N}, {Own, Tcp}) when is_integer(N), N > 0, N =< 16#ffffffff -> {Own#{packet_size => N}, Tcp};
option({service, Given} = Option, {Own, Tcp}) ->
    Name = text(Given, Option),
    is_service_name(Name) orelse throw({bad_option, Option}),
    {Own#{service => Name}, Tcp};
%% Messages are binaries, and the tunnel frames them.
option(binary, Acc) -> Acc;
option({mode, binary}, Acc) -> Acc;
%% The tunnel is built for this backend; see `tcp_options/2'.
option({inet_backend, inet}, Acc) -> Acc;
%% gen_tcp would leak a socket.
option({backlog, N} = Option, _Acc) when not is_integer(N); N < 0 -> throw({bad_option, Option});
option(Option, {Own, Tcp}) ->
    (is_ours(Option) orelse is_local(Option)) andalso throw({bad_option, Option}),
    {Own, [Option | Tcp]}.

%% Says whether an option is about Unix sockets: their peers have no address for a registry or the
%% handshake limiter to go by.
-spec is_local(term()) -> boolean().
is_local(local) -> true;
is_local({Name, {local, _}}) -> Name =:= ip orelse Name =:= ifaddr;
is_local({ifaddr, #{family := local}}) -> true;
is_local(_) -> false.

%% Says whether an option belongs to the tunnel, or would break it with another value.
-spec is_ours(term()) -> boolean().
is_ours(list) -> true;
is_ours(Option) when is_tuple(Option), tuple_size(Option) >= 1 ->
    lists:member(element(1, Option),
                 [key, vault, registry, known_servers, first_use, listener, handshake_timeout, receive_high_water,
                  handshakes_max, handshakes_per_source, buffer, event_handler, mode, packet, packet_size, service, header, deliver, exit_on_close,
                  show_econnreset, line_delimiter, delay_send, inet_backend]);
is_ours(Option) -> not is_atom(Option).

-spec is_listener_name(binary()) -> boolean().
is_listener_name(Name) ->
    try curve_tun_nif:is_listener_name(Name)
    %% The NIF is not loaded, which making the listener will report.
    catch error:_ -> true
    end.

-spec is_service_name(binary()) -> boolean().
is_service_name(Name) ->
    try curve_tun_nif:is_service_name(Name)
    catch error:_ -> true
    end.

-spec text(term(), term()) -> binary().
text(Text, Option) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> throw({bad_option, Option})
    catch
        error:badarg -> throw({bad_option, Option})
    end.

%% Returns an absolute path as bytes, since the working directory of a node may change.
-spec path(term(), term()) -> binary().
path(Path, Option) when Path =/= <<>>, Path =/= [], is_binary(Path) orelse is_list(Path) ->
    Name = case is_binary(Path) of
               true -> Path;
               false -> text(Path, Option)
           end,
    filename:absname(Name);
path(_Path, Option) ->
    throw({bad_option, Option}).

-spec is_active(term()) -> boolean().
is_active(N) when is_integer(N) -> N >= ?ACTIVE_MIN andalso N =< ?ACTIVE_MAX;
is_active(Active) -> lists:member(Active, [true, false, once]).

%% Checks what setopts may set on an open socket: only `{active, _}' belongs to the tunnel, the rest
%% to gen_tcp.
-spec check_settable(term()) -> {ok, curve_tun:active() | undefined, [term()]} | {error, curve_tun:option_error()}.
check_settable(Given) ->
    try lists:foldl(fun settable/2, {undefined, []}, proper(Given)) of
        {Active, Tcp} -> {ok, Active, lists:reverse(Tcp)}
    catch
        throw:Reason -> {error, Reason}
    end.

-spec settable(term(), {term(), [term()]}) -> {term(), [term()]}.
settable({active, Active} = Option, {_, Tcp}) ->
    is_active(Active) orelse throw({bad_option, Option}),
    {Active, Tcp};
settable(Option, {Active, Tcp}) ->
    lists:member(name(Option), ?AT_THE_START) andalso throw({bad_option, Option}),
    case option(Option, {#{}, []}) of
        {Own, [Option]} when map_size(Own) =:= 0 -> {Active, [Option | Tcp]};
        {Own, []} when map_size(Own) =:= 0 -> {Active, Tcp};
        _ -> throw({bad_option, Option})
    end.

-spec tcp_options(client | server | accepted, [term()]) -> [term()].
tcp_options(accepted, Given) ->
    accepted_socket(Given);
tcp_options(Side, Given) ->
    Defaults = [{nodelay, true}, {keepalive, true}, {buffer, ?SMALL_BUFFER}, {send_timeout, ?SEND_TIMEOUT}
                | [{backlog, ?BACKLOG} || Side =:= server]],
    Missing = [Default || {Key, _} = Default <- Defaults, not lists:keymember(Key, 1, Given)],
    %% A node may use another backend for its sockets by default (`-kernel inet_backend socket'),
    %% whose sockets are not ports.
    [{inet_backend, inet}, binary, {packet, raw}, {active, false}, {show_econnreset, true}]
        ++ Missing ++ watermarks(Given) ++ Given.

%% A waiting sender continues as soon as the kernel has taken some data, not only when all is gone.
-spec watermarks([term()]) -> [term()].
watermarks(Given) ->
    High = case lists:keyfind(high_watermark, 1, Given) of
               {_, H} when is_integer(H) -> H;
               _ -> ?HIGH_WATERMARK
           end,
    [{high_watermark, High} || not lists:keymember(high_watermark, 1, Given)]
        ++ [{low_watermark, High - min(High div 2, ?BUFFER)} || not lists:keymember(low_watermark, 1, Given)].

%% The options for an accepted socket, or one that a program hands over.
-spec accepted_socket([term()]) -> [term()].
accepted_socket(Given) ->
    [{mode, binary}, {packet, raw}, {active, false}, {show_econnreset, true}, {buffer, ?SMALL_BUFFER} | Given].

%% Finds the option for which gen_tcp refused a socket with just `badarg' or `einval': one that a
%% socket refuses by itself too, if there is any.
-spec refused(atom(), [term()]) -> {error, atom() | curve_tun:option_error()}.
refused(Reason, Tcp) when Reason =:= badarg; Reason =:= einval ->
    case lists:search(fun(Option) -> not is_taken(Option) end, Tcp) of
        {value, Option} -> {error, {bad_option, Option}};
        false -> {error, Reason}
    end;
refused(Reason, _Tcp) ->
    {error, Reason}.

-spec is_taken(term()) -> boolean().
is_taken({inet_backend, _}) -> true;
%% Not tried: the descriptor would be in use elsewhere.
is_taken({fd, Fd}) -> is_integer(Fd) andalso Fd >= 0;
is_taken(Option) -> is_taken(inet, Option) orelse is_taken(inet6, Option).

-spec is_taken(inet | inet6, term()) -> boolean().
is_taken(Family, Option) ->
    try gen_tcp:listen(0, [{inet_backend, inet}, Family, Option]) of
        {ok, Socket} -> ok = gen_tcp:close(Socket), true;
        %% Other errors come from the system.
        {error, Reason} -> Reason =/= einval
    catch
        _:_ -> false
    end.
