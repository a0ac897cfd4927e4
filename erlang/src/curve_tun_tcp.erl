%%% @private
%%% Calls to the TCP socket of a connection or a listener, made on its own node: the socket is
%%% unusable on others, as is the NIF's part of a connection.
-module(curve_tun_tcp).

-export([of_connection/3, of_listener/3, at/5]).

%% Calls a function of `inet' with the TCP socket and the remaining arguments.
-spec of_connection(pid(), atom(), [term()]) -> term().
of_connection(Connection, Function, Arguments) ->
    ask(curve_tun_request:call(Connection, socket), node(Connection), Function, Arguments).

-spec of_listener(pid(), atom(), [term()]) -> term().
of_listener(Listener, Function, Arguments) ->
    ask(curve_tun_listener:call(Listener, socket), node(Listener), Function, Arguments).

-spec ask({ok, gen_tcp:socket()} | {error, atom()}, node(), atom(), [term()]) -> term().
ask({ok, TcpSocket}, Node, Function, Arguments) -> at(Node, inet, Function, [TcpSocket | Arguments], badarg);
ask({error, Reason}, _Node, _Function, _Arguments) -> {error, Reason}.

%% Calls a function on a node. A failure gives an error with this reason.
-spec at(node(), module(), atom(), [term()], Reason) -> term() | {error, Reason | closed} when Reason :: atom().
at(Node, Module, Function, Arguments, Reason) when Node =:= node() ->
    try apply(Module, Function, Arguments)
    catch _:_ -> {error, Reason}
    end;
at(Node, Module, Function, Arguments, Reason) ->
    try erpc:call(Node, Module, Function, Arguments)
    catch
        error:{erpc, _} -> {error, closed};
        _:_ -> {error, Reason}
    end.
