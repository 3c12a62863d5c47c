#!/bin/sh
# Returns when the shard $1 may identify: ./curl.sh 3 && exec ./bot --shard 3
url="http://my-bot/?shard=$1&wait=60"
until
  status=$(curl --silent --max-time 75 --output /dev/null --write-out '%{http_code}' "$url") &&
    [ "$status" = 200 ]
do
  sleep 1
done
