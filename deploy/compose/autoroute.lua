-- Orthanc sends each stable study to the node. What the node itself made is not sent back to it.
function OnStableStudy(studyId, tags, metadata)
  for _, series in ipairs(ParseJson(RestApiGet('/studies/' .. studyId .. '/series'))) do
    local modality = series['MainDicomTags']['Modality']
    if modality ~= 'SR' and modality ~= 'SEG' and modality ~= 'OT' and modality ~= 'KO' then
      SendToModality(series['ID'], 'radnode')
    end
  end
end
