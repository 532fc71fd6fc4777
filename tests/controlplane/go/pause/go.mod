// What pods of the tests run, and what holds their network.
module tagout.test/controlplane/pause

go 1.26.0
