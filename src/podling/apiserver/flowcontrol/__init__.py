"""API Priority and Fairness (KEP-1040): who is served at once, who waits, who is turned away when too many come.

A request is classified by the FlowSchemas into a priority level and, within it, a flow. A level has so many seats; what
finds none waits in one of the level's queues, and the queues are served fairly. Decisions are pure and know time only
as a number they are given:

    classify      which schema a request matches           sharding      which queues a flow may wait in
    queueset      seats and fair queues of one level       work          how many seats a request takes
    levels        all levels: shares, borrowing            allocation    seats divided among levels that lend
    demand        how many seats a level could have used   dropped       when the turned away may try again

and shells act on them: `gate` lets requests of the HTTP server in, `maxinflight` is the plain limit without all this,
`consumer` keeps the levels as the API objects say, `producer` the objects as every cluster has them, `dump` shows it.

Everything runs on one event loop, so requests that never wait would never hold a seat while another one asks for it,
and no limit would ever bite. Therefore a seat stays taken until the event loop has come round once: the seats of a
level are how many of its requests are served in one round, and who is more important gets its turn in every round.
"""
