%%% @private
%%% What a connection with a stream has its sender write: data, the end, and what the machine in the
%%% NIF has to send besides. Calls that wait for that are answered here.
-module(curve_tun_connection_sending).

-include("curve_tun_connection.hrl").

-export([write_due/1, flush/1, send/3, opened/1, finish/2, finish_written/2, nobody_waits/1]).

%% Writes what the machine has to send before anything else is sent, in this process if nobody else
%% writes.
-spec write_due(#data{}) -> #data{}.
write_due(#data{socket = Socket, nif = Nif} = D0) ->
    case curve_tun_sender:write_due(Socket, Nif) of
        busy -> {_Ref, D} = flush(D0), D;
        _ -> D0
    end.

%% Has the sender write what the machine has to send. The answer is `{Reference, ok | {error, _}}'.
-spec flush(#data{}) -> {reference(), #data{}}.
flush(D0) ->
    Ref = make_ref(),
    {Sender, D} = sender(D0),
    ok = curve_tun_sender:enqueue(Sender, Ref, []),
    {Ref, D}.

-spec sender(#data{}) -> {pid(), #data{}}.
sender(#data{sender = undefined, socket = Socket, nif = Nif} = D) ->
    Sender = curve_tun_sender:start_link(self(), Socket, Nif),
    {Sender, D#data{sender = {Sender, 1}}};
sender(#data{sender = {Sender, Asked}} = D) ->
    {Sender, D#data{sender = {Sender, Asked + 1}}}.

%% Has the sender send it, if the peer takes it. A message that may be too large for the peer waits
%% until the peer has opened, for as long as a send may wait at all.
-spec send(gen_statem:from(), [binary()], #data{}) -> #data{}.
send(From, Messages, #data{nif = Nif, socket = Socket, stream = #stream{waiting = Waiting} = S} = D0) ->
    case curve_tun_nif:stream_check(Nif, lists:max([0 | [byte_size(Message) || Message <- Messages]])) of
        ok ->
            {Sender, D} = sender(D0),
            ok = curve_tun_sender:enqueue(Sender, From, Messages),
            D;
        later ->
            Timer = case inet:getopts(Socket, [send_timeout]) of
                        {ok, [{send_timeout, Ms}]} when is_integer(Ms) -> erlang:start_timer(Ms, self(), open);
                        _ -> none
                    end,
            D0#data{stream = S#stream{waiting = Waiting ++ [{From, Messages, Timer}]}};
        {error, Reason} ->
            gen_statem:reply(From, {error, Reason}),
            D0
    end.

%% The peer has opened: what waits for that is sent, or refused.
-spec opened(#data{}) -> #data{}.
opened(#data{stream = #stream{waiting = Waiting} = S} = D) ->
    lists:foldl(fun({From, Messages, Timer}, Acc) -> cancel(Timer), send(From, Messages, Acc) end,
                D#data{stream = S#stream{waiting = []}}, Waiting).

-spec cancel(reference() | none) -> ok.
cancel(none) -> ok;
cancel(Timer) -> erlang:cancel_timer(Timer, [{async, true}, {info, false}]).

%% Has the sender end what is sent, after all of it.
-spec finish([gen_statem:from()], #data{}) -> #data{}.
finish(Froms, #data{stream = #stream{finished = no}} = D0) ->
    Ref = make_ref(),
    {Sender, #data{stream = S} = D} = sender(D0),
    ok = curve_tun_sender:finish(Sender, Ref),
    D#data{stream = S#stream{finished = {asked, Ref, Froms}}};
finish(Froms, #data{stream = #stream{finished = {asked, Ref, Others}} = S} = D) ->
    D#data{stream = S#stream{finished = {asked, Ref, Froms ++ Others}}};
finish(Froms, #data{stream = #stream{finished = yes}} = D) ->
    _ = [gen_statem:reply(From, ok) || From <- Froms],
    D.

-spec finish_written(ok | {error, atom()}, #data{}) -> #data{}.
finish_written(ok, #data{stream = #stream{finished = yes}} = D) ->
    D;
finish_written(Result, #data{stream = #stream{finished = {asked, _, Froms}} = S} = D) ->
    _ = [gen_statem:reply(From, Result) || From <- Froms],
    D#data{stream = S#stream{finished = case Result of ok -> yes; _ -> no end}}.

%% Nobody who sends waits any longer.
-spec nobody_waits(#data{}) -> #data{}.
nobody_waits(#data{stream = none} = D) ->
    D;
nobody_waits(#data{stream = #stream{waiting = Waiting, finished = Finished} = S} = D) ->
    _ = [begin cancel(Timer), gen_statem:reply(From, {error, closed}) end || {From, _, Timer} <- Waiting],
    Left = case Finished of
               {asked, Ref, Froms} -> _ = [gen_statem:reply(From, {error, closed}) || From <- Froms], {asked, Ref, []};
               _ -> Finished
           end,
    D#data{stream = S#stream{waiting = [], finished = Left}}.
