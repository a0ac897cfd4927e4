%%% @private
%%% The options of connect, listen and handshake: the tunnel's own, and those that go on to gen_tcp.
-module(curve_tun_options).

-export([parse/2, check_settable/1, accepted_socket/1]).
-export_type([options/0]).

-type options() :: #{key => curve_tun:public_key(), vault => module(), registry => module(),
                     known_servers => file:filename_all(), first_use => curve_tun:first_use(), listener := binary(),
                     active := curve_tun:active(), handshake_timeout := timeout(),
                     receive_high_water := pos_integer(), handshakes_max := pos_integer(),
                     handshakes_per_source := pos_integer() | infinity, buffer := pos_integer()}.

-define(ACTIVE_MIN, -32768).
-define(ACTIVE_MAX, 32767).

%% One read of the socket takes up to this much when much comes: OTP's default of 1460 bytes costs a multiple of the time.
%% A busy socket may keep a whole buffer ready, so one that has little to read has a small one.
-define(BUFFER, 131072).
-define(SMALL_BUFFER, 4096).
%% What is sealed and not taken by the kernel: both peers can say this much before either reads.
-define(HIGH_WATERMARK, 67108864).
%% As many as Linux allows by default: a client that finds no place tries again after a second.
-define(BACKLOG, 4096).
-define(SEND_TIMEOUT, 5000).

%% Takes the tunnel's options out; gives the rest with what the tunnel needs of a gen_tcp socket.
-spec parse(client | server | accepted, [curve_tun:option()]) ->
          {ok, options(), [term()]} | {error, curve_tun:option_error()}.
parse(Side, Given) ->
    Defaults = #{active => false, handshake_timeout => 10000, receive_high_water => 262144, listener => <<>>,
                 handshakes_max => 1024, handshakes_per_source => infinity, buffer => ?BUFFER},
    try
        {Options, Tcp} = lists:foldl(fun option/2, {Defaults, []}, proper(Given)),
        ok = check_trust(Side, Options),
        {ok, Options, tcp_options(Side, lists:reverse(Tcp))}
    catch
        throw:Reason -> {error, Reason}
    end.

%% Nobody may believe that a key is checked when it is not: only a client that connects by a name checks it.
-spec check_trust(client | server | accepted, map()) -> ok.
check_trust(client, #{first_use := _} = Options) ->
    is_map_key(known_servers, Options) orelse throw({missing_option, known_servers}),
    ok;
check_trust(client, _Options) ->
    ok;
check_trust(_Side, Options) ->
    _ = [throw({bad_option, {Name, Value}})
         || Name <- [known_servers, first_use], {ok, Value} <- [maps:find(Name, Options)]],
    ok.

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
option({listener, Name} = Option, {Own, Tcp}) -> {Own#{listener => text(Name, Option)}, Tcp};
option({handshake_timeout, infinity}, {Own, Tcp}) -> {Own#{handshake_timeout => infinity}, Tcp};
option({handshake_timeout, Ms}, {Own, Tcp}) when is_integer(Ms), Ms > 0 -> {Own#{handshake_timeout => Ms}, Tcp};
option({receive_high_water, N}, {Own, Tcp}) when is_integer(N), N > 0 -> {Own#{receive_high_water => N}, Tcp};
option({handshakes_max, N}, {Own, Tcp}) when is_integer(N), N > 0, N =< 16#ffffffff ->
    {Own#{handshakes_max => N}, Tcp};
option({handshakes_per_source, infinity}, {Own, Tcp}) -> {Own#{handshakes_per_source => infinity}, Tcp};
option({handshakes_per_source, N}, {Own, Tcp}) when is_integer(N), N > 0 ->
    {Own#{handshakes_per_source => N}, Tcp};
option({buffer, N}, {Own, Tcp}) when is_integer(N), N > 0 -> {Own#{buffer => N}, Tcp};
option({active, Active} = Option, {Own, Tcp}) ->
    is_active(Active) orelse throw({bad_option, Option}),
    {Own#{active => Active}, Tcp};
%% Messages are binaries, and the tunnel frames them.
option(binary, Acc) -> Acc;
option({mode, binary}, Acc) -> Acc;
option({packet, Packet}, Acc) when Packet =:= raw; Packet =:= 0; Packet =:= 2 -> Acc;
option(Option, {Own, Tcp}) ->
    is_ours(Option) andalso throw({bad_option, Option}),
    {Own, [Option | Tcp]}.

%% Options whose other values would break the tunnel, or that are its own.
-spec is_ours(term()) -> boolean().
is_ours(list) -> true;
is_ours(Option) when is_tuple(Option), tuple_size(Option) >= 1 ->
    lists:member(element(1, Option),
                 [key, vault, registry, known_servers, first_use, listener, handshake_timeout, receive_high_water,
                  handshakes_max, handshakes_per_source, buffer, mode, packet, packet_size, header, deliver, exit_on_close,
                  show_econnreset, line_delimiter, delay_send]);
is_ours(Option) -> not is_atom(Option).

-spec text(term(), term()) -> binary().
text(Text, Option) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> throw({bad_option, Option})
    catch
        error:badarg -> throw({bad_option, Option})
    end.

%% A path as bytes, and from the root: the folder that a node runs in may change.
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

%% What setopts may set on an open socket: `{active, _}' alone is the tunnel's, the rest is gen_tcp's.
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
    [binary, {packet, raw}, {active, false}, {show_econnreset, true}] ++ Missing ++ watermarks(Given) ++ Given.

%% A waiting sender goes on as soon as the kernel has taken some, not only when all is gone.
-spec watermarks([term()]) -> [term()].
watermarks(Given) ->
    High = case lists:keyfind(high_watermark, 1, Given) of
               {_, H} when is_integer(H) -> H;
               _ -> ?HIGH_WATERMARK
           end,
    [{high_watermark, High} || not lists:keymember(high_watermark, 1, Given)]
        ++ [{low_watermark, High - min(High div 2, ?BUFFER)} || not lists:keymember(low_watermark, 1, Given)].

%% What an accepted socket, or one that a program hands over, is set to.
-spec accepted_socket([term()]) -> [term()].
accepted_socket(Given) ->
    [{mode, binary}, {packet, raw}, {active, false}, {show_econnreset, true}, {buffer, ?SMALL_BUFFER} | Given].
