#!/bin/sh
# Returns when the shard $1 may identify: ./curl.sh 3 && exec ./bot --shard 3
until curl --silent --fail --output /dev/null "http://my-bot/?shard=$1&wait=60"; do
  sleep 1
done
