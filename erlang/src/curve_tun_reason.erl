%%% @private
%%% Describes the reasons of this application. Those in the crate's table of errors have its
%%% sentences; the ones specific to Erlang are here.
-module(curve_tun_reason).

-export([text/1]).

%% See curve_tun:format_error/1.
-spec text(term()) -> string().
text({error, Reason}) ->
    text(Reason);
%% From `application:start/1'.
text({Reason, {curve_tun_app, start, _}}) ->
    text(Reason);
text({shutdown, {failed_to_start_child, Child, Reason}}) ->
    format("~tp: ~ts", [Child, text(Reason)]);
%% From curve_tun_simple_registry:problem/0.
text({Line, Column, What}) when is_integer(Line), is_integer(Column), is_binary(What) ->
    format("line ~b, column ~b: ~ts", [Line, Column, What]);
text({bad_option, Option}) ->
    format("this option is not known, or cannot be used here or with this value: ~tP", [Option, 12]);
text({missing_option, Name}) ->
    format("the option ~tp is needed", [Name]);
text({bad_length, Length}) ->
    format("the length to receive must be 0, or of a stream of bytes up to 67108864, and not ~tp", [Length]);
text({aborted, Code}) when is_integer(Code), Code >= 0, Code =< 65535 ->
    unicode:characters_to_list(curve_tun_nif:abort_message(Code));
text({not_started, Application}) ->
    format("the application ~tp does not run", [Application]);
text({no_provider, Kind}) ->
    format("the application's environment names no ~tp", [Kind]);
text({bad_environment, {Key, Module}}) ->
    format("the application's environment names, under ~tp, what is no such module: ~tP", [Key, Module, 12]);
text({bad_environment, Key}) ->
    format("the application's environment has the key ~tp, which is not known, has no effect, or has a value that cannot be "
           "used", [Key]);
text({key_changed, Known, Offered}) ->
    format("the server is known by the key ~ts, and was offered with ~ts", [key(Known), key(Offered)]);
text({key_denied, Offered}) ->
    format("the key is denied: ~ts", [key(Offered)]);
text({unknown_peer, Offered}) ->
    format("the server is not known, and its key was not accepted: ~ts", [key(Offered)]);
text(Reason) when is_atom(Reason) ->
    of_atom(own(Reason), Reason);
text(Reason) ->
    format("unknown reason: ~tP", [Reason, 12]).

-spec of_atom(string() | none, atom()) -> string().
of_atom(none, Reason) -> of_table(curve_tun_nif:error_message(Reason), Reason);
of_atom(Text, _Reason) -> Text.

-spec of_table(binary() | none, atom()) -> string().
of_table(none, Reason) -> of_system(inet:format_error(Reason), Reason);
of_table(Text, _Reason) -> unicode:characters_to_list(Text).

-spec of_system(string(), atom()) -> string().
of_system("unknown POSIX error" ++ _, Reason) -> format("unknown reason: ~tp", [Reason]);
of_system(Text, _Reason) -> Text.

-spec own(atom()) -> string() | none.
own(badarg) -> "an argument is of the wrong kind";
own(einval) -> "the call does not fit the socket's active mode, or a value is out of range";
own(enotsup) -> "this is not supported here, or this build of the library lacks the feature";
own(not_owner) -> "the calling process does not own the socket";
own(send_timeout) -> "the peer has not read for as long as the option send_timeout says";
own(crashed) -> "a process of curve_tun has crashed; its log tells more of it";
own(ambiguous_vault) -> "the application's environment names two vaults, or a passphrase for one that has none";
own(failed_verification) -> "the box does not open";
own(eafnosupport) -> "the socket is of another kind than TCP over IPv4 or IPv6";
own(econnreset) -> "the peer has reset the connection";
own(system_limit) -> "the node has as many sockets or processes as it may have";
own(_) -> none.

-spec key(term()) -> binary() | string().
key(<<Key:32/binary>>) -> curve_tun_nif:public_key_to_text(Key);
key(Other) -> format("~tP", [Other, 12]).

-spec format(io:format(), [term()]) -> string().
format(Format, Arguments) ->
    lists:flatten(io_lib:format(Format, Arguments)).
