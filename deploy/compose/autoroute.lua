-- Orthanc sends each stable study to the node, as a job of its own. What the node itself made is not sent back to it.
local results = { SR = true, SEG = true, OT = true, KO = true, DOC = true, RTSTRUCT = true }

function OnStableStudy(studyId, tags, metadata)
  local images = {}
  for _, series in ipairs(ParseJson(RestApiGet('/studies/' .. studyId .. '/series'))) do
    if not results[series['MainDicomTags']['Modality']] then
      table.insert(images, series['ID'])
    end
  end
  if #images > 0 then
    RestApiPost('/modalities/radnode/store', DumpJson({ Resources = images, Synchronous = false }, true))
  end
end
